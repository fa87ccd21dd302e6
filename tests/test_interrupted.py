"""Runs that end before their time, however they end: made again, they end as an undisturbed run, byte for byte."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import pytest

from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.errors import UsageError
from detcam.runs import folder
from detcam.runs.folder import RunFolder
from detcam.runs.schema import read_detections
from support.comparison import contents
from support.images import write_images

QUICK = ["--weights", str(WEIGHTS), "--method", "random", "--save", "none"]
COUNT = 40


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("interrupted") / "images", COUNT)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(command(images, out)) == 0
    return out


def command(images, out, *options):
    return ["explain", str(images), "--out", str(out), *QUICK, *options]


def start(images, out, *options, **keywords):
    return subprocess.Popen([sys.executable, "-m", "detcam", *command(images, out, *options)], **keywords)


def done_by(process, out, count):
    """Wait until ``count`` images are done; how many are."""
    for _ in range(6000):
        done = len(list((out / ".parts").glob("*.parquet")))
        if done >= count:
            return done
        assert process.poll() is None, "it ended before it could be disturbed"
        time.sleep(0.005)
    raise AssertionError("a minute without progress")


def resumed(images, out, capsys):
    """Run again in this process; what it said."""
    capsys.readouterr()
    assert main(command(images, out)) == 0
    return capsys.readouterr().err


def test_a_killed_run_ends_as_an_undisturbed_one(images, whole, tmp_path, capsys):
    out = tmp_path / "run"
    for count in (3, 12):
        process = start(images, out)
        assert done_by(process, out, count) < COUNT
        process.kill()
        process.wait()
    done = len(list((out / ".parts").glob("*.parquet")))
    assert f"({done} of them by an earlier run)" in resumed(images, out, capsys)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(400, 6, marks=pytest.mark.cluster), pytest.param(2000, 20, marks=pytest.mark.slow)],
)
def test_many_images_killed_many_times(tmp_path, count, kills):
    """At moments of the whole of a process's life: before the folder is there, while it opens, at work."""
    images, out = write_images(tmp_path / "images", count), tmp_path / "killed"
    # Another process as well: a thread more or less here changes sums in their last bits.
    assert start(images, tmp_path / "whole").wait() == 0
    rng, done = random.Random(1), [0]
    for _ in range(kills):
        process = start(images, out, stderr=subprocess.DEVNULL)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 4))  # mostly before its first image
        else:
            done_by(process, out, done[-1] + rng.randint(1, count // 20))
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.wait()
        done.append(len(list((out / ".parts").glob("*.parquet"))))
    assert json.loads((out / "run.json").read_text())["state"] == "running"
    assert sum(later > before for before, later in pairwise(done)) >= 2 * kills // 5, done
    assert subprocess.run([sys.executable, "-m", "detcam", *command(images, out)], check=False).returncode == 0
    assert contents(out) == contents(tmp_path / "whole")
    print(f"images done after each kill: {done[1:]}; {len(read_detections(out))} rows, byte for byte")


def test_ctrl_c(images, whole, tmp_path, capsys):
    out = tmp_path / "run"
    process = start(images, out, stderr=subprocess.PIPE, text=True)
    assert done_by(process, out, 3) < COUNT
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "detcam explain: interrupted; what was finished is kept\n"
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    kept = read_detections(out)
    assert 3 <= kept["image"].n_unique() < COUNT
    assert kept.equals(read_detections(whole).filter(read_detections(whole)["image"].is_in(kept["image"].to_list())))
    assert "by an earlier run)" in resumed(images, out, capsys)
    assert contents(out) == contents(whole)


def test_the_reader_of_its_lines_goes_away(images, whole, tmp_path, capsys):
    out = tmp_path / "run"
    with start(images, out, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["status"] == "ok"
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b""
    assert read_detections(out)["image"].n_unique() < COUNT
    resumed(images, out, capsys)
    assert contents(out) == contents(whole)


def test_images_that_share_a_batch_share_it_again(images, tmp_path, capsys, monkeypatch):
    """Results differ in the last bits between batches, so a batch that was half finished is computed again whole."""
    options = ["--method", "layercam", "--batch", "4"]
    assert main(command(images, tmp_path / "whole", *options)) == 0
    real = RunFolder.add
    for count in (2, 6, 11):
        left = [None] * count

        def add(*arguments, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "add", add)
            assert main(command(images, tmp_path / "run", *options)) == 130
    assert main(command(images, tmp_path / "run", *options)) == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_an_image_that_fails_again_does_not_drag_others_along(images, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(images.iterdir())[:3]:
        shutil.copy(path, folder)
    broken = folder / "00001b.png"
    broken.write_bytes(b"no image")
    options = ["--method", "layercam", "--batch", "4"]
    assert main(command(folder, tmp_path / "run", *options)) == 1
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "heatmaps").iterdir()}
    capsys.readouterr()
    assert main(command(folder, tmp_path / "run", *options)) == 1
    assert "in 3 images explained (3 of them by an earlier run)" in capsys.readouterr().err
    shutil.copy(sorted(images.iterdir())[5], broken)
    assert main(command(folder, tmp_path / "run", *options)) == 0
    assert "in 4 images explained (3 of them by an earlier run)" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_table_that_is_gone_is_made_again(images, whole, tmp_path, capsys):
    for name in ("detections.parquet", "images.parquet"):
        shutil.copytree(whole, tmp_path / name)
        (tmp_path / name / name).unlink()
        assert main(command(images, tmp_path / name)) == 0
        assert contents(tmp_path / name) == contents(whole)


def test_rows_that_are_missing_are_made_again(images, whole, tmp_path, capsys):
    """Two processes that end together at an address without locks can leave tables that disagree."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    rows = read_detections(out)
    lost = rows["image"].unique().sort()[3:9].to_list()
    rows.filter(~rows["image"].is_in(lost)).write_parquet(out / "detections.parquet")
    assert f"({COUNT - 6} of them by an earlier run)" in resumed(images, out, capsys)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("name", [".parts/damaged-0123456789abcdef.parquet", "detections.parquet", "images.parquet"])
@pytest.mark.parametrize("content", [b"", b"garbage that is no table"])
def test_a_damaged_table_is_named(images, whole, tmp_path, capsys, name, content):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / ".parts").mkdir()
    (out / name).write_bytes(content)
    assert main(command(images, out)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out / name} is damaged: " in line
    assert "remove it, and its images are explained again" in line
    (out / name).unlink()
    resumed(images, out, capsys)
    assert contents(out) == contents(whole)


def test_a_folder_whose_name_is_no_text(images, whole, tmp_path):
    out = tmp_path / os.fsdecode(b"o\xff")
    assert main(command(images, out)) == 0
    assert contents(out) == contents(whole)


def test_a_run_that_another_one_overtakes_while_it_opens(tmp_path, monkeypatch):
    """Between a first look at a folder and its lock another process may make and finish a run there."""

    def overtaken(path):
        monkeypatch.undo()
        RunFolder(path, "explain", {"conf": 0.1}).finish(True)

    monkeypatch.setattr("detcam.runs.folder.make_folder", overtaken)
    with pytest.raises(UsageError, match=r"with another configuration \(conf: 0.1, now 0.9\)"):
        RunFolder(tmp_path / "run", "explain", {"conf": 0.9})


def test_failures_of_an_interrupted_run_are_its_own(images, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(f"{broken}\n{images}\n")
    assert main(command(tmp_path / "list.txt", tmp_path / "run")) == 1
    broken.write_bytes(next(images.iterdir()).read_bytes())

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "add", interrupted)
        assert main(command(tmp_path / "list.txt", tmp_path / "run")) == 130
    assert json.loads((tmp_path / "run" / "run.json").read_text())["counts"]["failed"] == 0
    assert not (tmp_path / "run" / "errors.jsonl").exists()


def test_what_cannot_be_drawn_fails_alone(images, tmp_path, monkeypatch, capsys):
    real = folder.write_result

    def drawn(path, result, *arguments):
        if result.source.endswith("00003.png"):
            raise cv2.error("Insufficient memory")
        return real(path, result, *arguments)

    monkeypatch.setattr(folder, "write_result", drawn)
    assert main(command(images, tmp_path / "run")) == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["counts"]["images"] == COUNT - 1
    assert "00003.png: Insufficient memory" in capsys.readouterr().err


@pytest.mark.parametrize("after", [0, 1, 2, 3, 20])
def test_a_full_disk(images, whole, tmp_path, capsys, monkeypatch, after):
    out, left, real = tmp_path / "run", after, Path.write_bytes

    def full(path, data):
        nonlocal left
        left -= 1
        if left < 0:
            real(path, bytes(data)[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert main(command(images, out)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert not list(out.rglob("*.partial*"))
    resumed(images, out, capsys)
    assert contents(out) == contents(whole)


def test_one_process_at_a_time(tmp_path):
    holder = RunFolder(tmp_path / "r", "explain", {})
    before = contents(tmp_path / "r")
    code = subprocess.run(
        [sys.executable, "-c", "import sys; from detcam.runs.folder import RunFolder; from pathlib import Path\n"
         "from detcam.errors import UsageError\n"
         "try: RunFolder(Path(sys.argv[1]), 'explain', {})\n"
         "except UsageError as error: print(error)", str(tmp_path / "r")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "another process is writing to" in code.stdout
    assert contents(tmp_path / "r") == before
    holder.describe()
    holder.finish(True)
    RunFolder(tmp_path / "r", "explain", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no folder is read-only")
def test_a_read_only_folder(images, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main(command(images, tmp_path / "closed" / "run")) == 2
    assert "cannot write to" in capsys.readouterr().err
