"""Runs that are repeated, of videos and lists, and handed to many processes: the same rows, nothing doubled."""

import json
import logging
import statistics
import subprocess
import sys
import time

import cv2
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.runs.schema import read_detections
from support.comparison import contents
from support.images import write_images

QUICK = ["--weights", str(WEIGHTS), "--method", "random", "--save", "none"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("engine") / "images", 16)


def explain(*arguments):
    return main(["explain", *map(str, arguments), *QUICK])


def test_a_finished_run_is_not_done_again_and_tells_its_rows(images, tmp_path, capsys):
    assert explain(images, "--out", tmp_path / "r", "--json") == 0
    first = capsys.readouterr().out
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "r" / "heatmaps").iterdir()}
    assert explain(images, "--out", tmp_path / "r", "--json") == 0
    again = capsys.readouterr()
    assert sorted(again.out.splitlines()) == sorted(first.splitlines())
    assert "(16 of them by an earlier run)" in again.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r" / "heatmaps").iterdir()} == stamps


def test_new_images_join_a_finished_run(images, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(images.iterdir())[::2]:
        (some / path.name).write_bytes(path.read_bytes())
    assert explain(some, "--out", tmp_path / "r") == 0
    for path in sorted(images.iterdir())[1::2]:
        (some / path.name).write_bytes(path.read_bytes())
    assert explain(some, "--out", tmp_path / "r") == 0
    assert explain(some, "--out", tmp_path / "whole") == 0
    assert contents(tmp_path / "r") == contents(tmp_path / "whole")


def test_a_list_on_stdin_and_an_image_that_fails(images, tmp_path, capsys, monkeypatch):
    names = sorted(images.iterdir())[:3]
    (tmp_path / "broken.png").write_bytes(b"no image")
    listed = "\n".join([*map(str, names), str(tmp_path / "broken.png")])
    (tmp_path / "stdin").write_text(listed)
    with (tmp_path / "stdin").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert explain("-", "--out", tmp_path / "r") == 1
    assert json.loads((tmp_path / "r" / "run.json").read_text())["counts"]["images"] == 3
    (line,) = (tmp_path / "r" / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == str(tmp_path / "broken.png")


@pytest.fixture
def clip(tmp_path):
    """Six frames a tenth of a second apart."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (256, 256))
    for seed in range(6):
        writer.write(render(make_scene(seed))[..., ::-1])
    writer.release()
    return tmp_path / "clip.mp4"


def test_a_video_becomes_a_video(clip, tmp_path):
    command = ["explain", str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "r"), "--every", "2", "--save", "video",
               "--weights", str(WEIGHTS), "--method", "random"]  # fmt: skip
    assert main(command) == 0
    names = set(read_detections(tmp_path / "r")["image"])
    assert names <= {str(tmp_path / f"clip.mp4#{number:06d}") for number in (0, 2, 4)}
    (made,) = (tmp_path / "r" / "overlays").glob("*.mp4")
    reader = cv2.VideoCapture(str(made))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert reader.get(cv2.CAP_PROP_FPS) == 5
    good, frame = reader.read()
    assert good
    assert frame.shape == (256, 256, 3)
    shown = frame.mean(2).ravel()
    same, other = (np.corrcoef(shown, render(make_scene(seed)).mean(2).ravel())[0, 1] for seed in (0, 2))
    assert same > other + 0.3  # boxes and labels cover a good part of it


def test_memory_does_not_grow_with_the_images(tmp_path):
    images = write_images(tmp_path / "images", 120)
    process = psutil.Process()
    some = tmp_path / "list.txt"
    some.write_text("\n".join(str(path) for path in sorted(images.iterdir())[:20]))
    assert explain(some, "--out", tmp_path / "few") == 0
    before = process.memory_info().rss
    assert explain(images, "--out", tmp_path / "many") == 0
    assert (process.memory_info().rss - before) / 2**20 < 50


@pytest.mark.slow
def test_memory_does_not_grow_with_maps_and_pictures(tmp_path):
    """One run of images of many sizes, all of them drawn: its memory around the 200th and around the 800th."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(820):
        size = (200 + 37 * (seed % 11), 180 + 53 * (seed % 7))
        scene = cv2.resize(render(make_scene(seed)), size)
        Image.fromarray(scene).save(images / f"{seed:05d}.png", compress_level=1)
    command = [sys.executable, "-m", "detcam", "explain", str(images), "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*command, "--weights", str(WEIGHTS), "--method", "layercam"])
    held: dict[bool, list[float]] = {False: [], True: []}
    while process.poll() is None:
        done = len(list((tmp_path / "run" / ".parts").glob("*.parquet")))
        if 180 <= done < 240 or done >= 780:
            held[done >= 780].append(psutil.Process(process.pid).memory_info().rss / 2**20)
        time.sleep(0.2)
    early, late = (statistics.median(some) for some in held.values())
    print(f"{early:.0f} MiB around the 200th image, {late:.0f} around the 800th")
    assert process.returncode == 0
    assert late - early < 50


@pytest.fixture(scope="module")
def cluster():
    """Ray on two cores. Its workers have a thread each, and so has what they are compared with: sums of several threads
    differ in their last bits.
    """
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield ray
    torch.set_num_threads(threads)
    ray.shutdown()


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")
def test_ray_gives_the_same_rows(images, tmp_path, cluster):
    assert explain(images, "--out", tmp_path / "local") == 0
    assert explain(images, "--out", tmp_path / "ray", "--engine", "ray", "--workers", "2") == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")
def test_frames_and_what_fails_beside_ray(images, clip, tmp_path, cluster):
    """Workers read files; frames, which only the process that reads the video has, are explained there.

    Batches of four, because results differ in the last bits between batches.
    """
    first, *others = sorted(images.iterdir())
    listed = [first, clip, tmp_path / "gone.png", *others, images / "again.png"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, listed)))
    run = ["explain", str(tmp_path / "list.txt"), "--weights", str(WEIGHTS), "--save", "none"]
    run += ["--method", "layercam", "--batch", "4", "--out"]
    assert main([*run, str(tmp_path / "local")]) == 1
    assert main([*run, str(tmp_path / "ray"), "--engine", "ray"]) == 1
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert json.loads((tmp_path / "ray" / "run.json").read_text())["counts"]["images"] == 16 + 6


@pytest.mark.parametrize(
    "count", [pytest.param(60, marks=pytest.mark.cluster), pytest.param(300, marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("default")
def test_ray_survives_the_death_of_a_worker(tmp_path, cluster, count):
    images = write_images(tmp_path / "images", count)
    assert explain(images, "--out", tmp_path / "local") == 0
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(tmp_path / "ray"), str(count // 2)])
    assert explain(images, "--out", tmp_path / "ray", "--engine", "ray", "--workers", "2") == 0
    assert killer.wait() == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


KILLER = """
import pathlib, sys, time, psutil
parts = pathlib.Path(sys.argv[1]) / ".parts"
for _ in range(30000):
    if parts.is_dir() and 5 <= (done := len(list(parts.glob("*.parquet")))):
        called = {p: " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])}
        workers = [p for p, name in called.items() if name.startswith("ray::") and "MapWorker" in name]
        if workers:
            workers[0].kill()
            sys.exit(done > int(sys.argv[2]) and f"killed too late: {done} images were done")
    time.sleep(0.01)
sys.exit("no worker was found at work")
"""


@pytest.mark.cluster
def test_each_worker_has_a_gpu_of_its_own(images, tmp_path):
    """On a cluster that counts two GPUs, though this machine has none: each worker sees the one Ray gives it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    command = [sys.executable, "-W", "ignore", "-c", GPUS, str(tmp_path / "run"), *map(str, sorted(images.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["gpus"] == 2
    assert told["seen"] == ["0", "1"]
    assert told["reasons"] == len(sorted(images.iterdir()))


GPUS = """
import json, logging, os, sys, time
import ray
ray.init(num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
from detcam.runs.engine import cluster, run_on_ray
from detcam.runs.results import Pictures
from detcam.runs.folder import RunFolder
class Seeing:
    max_pixels = 10**6
    batch = 1
    def explain_named(self, arrays, in_pieces):
        time.sleep(0.2)
        raise RuntimeError(os.environ["CUDA_VISIBLE_DEVICES"])
with cluster(None) as gpus:
    folder = RunFolder(sys.argv[1], "explain", {})
    names = [[name] for name in sys.argv[2:]]
    work = run_on_ray(Seeing, names, folder, Pictures(frozenset(), "inferno", 0.6), workers=4, gpus=1)
    reasons = [done.reason for done in work]
print(json.dumps({"gpus": gpus, "seen": sorted(set(reasons)), "reasons": len(reasons)}))
"""
