"""Run folders and images that are not on this machine: the same bytes, nothing half-written, clear words."""

import json

import fsspec
import numpy as np
import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import InputError, UsageError
from detcam.export import export
from detcam.io.files import (
    is_local,
    list_remote,
    locate,
    on_this_machine,
    read_remote,
    read_tables,
    remove_files,
    write_whole,
)
from detcam.io.images import read_image
from detcam.io.sources import expand, find_images
from detcam.runs.schema import read_detections, read_heatmap

pytestmark = pytest.mark.filterwarnings("ignore:UPath .* not explicitly implemented")
QUICK = ["--weights", str(WEIGHTS), "--method", "random"]


class Shelf(LocalFileSystem):
    """A remote disk: it shows half-written files, unlike an object store; its connection ends after some."""

    protocol = "shelf"
    left = 10_000

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("shelf://"))

    def _open(self, path, mode="rb", **keywords):
        if "w" in mode:
            type(self).left -= 1
            if self.left < 0:
                raise RuntimeError("the connection\nwas reset")
        return super()._open(path, mode, **keywords)


@pytest.fixture(autouse=True)
def stores():
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    MemoryFileSystem.store.clear()
    Shelf.left = 10_000


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "images"
    folder.mkdir()
    for seed in range(4):
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed}.png")
    return folder


def explain(source, out, *options):
    return main(["explain", str(source), "--out", str(out), *QUICK, *options])


def contents(run):
    files = (path for path in locate(run).rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path).removeprefix(str(run)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert explain(images, out) == 0
    return out


def test_the_same_bytes_in_memory_as_on_disk(images, whole):
    assert explain(images, "memory://bucket/run") == 0
    assert contents("memory://bucket/run") == contents(whole)


def test_a_remote_run_is_read_back_and_exported(images, whole, tmp_path):
    assert explain(images, "memory://bucket/run") == 0
    rows = read_detections("memory://bucket/run")
    assert rows.equals(read_detections(whole))
    for row in rows.iter_rows(named=True):
        there = read_heatmap("memory://bucket/run", row["heatmap"], row["scale"])
        assert np.array_equal(there, read_heatmap(whole, row["heatmap"], row["scale"]))
    export("memory://bucket/run", "csv", tmp_path / "csv")
    export(whole, "csv", tmp_path / "local")
    assert (tmp_path / "csv" / "detections.csv").read_bytes() == (tmp_path / "local" / "detections.csv").read_bytes()


def test_a_remote_run_goes_on_is_guarded_and_replaced(images, whole, capsys):
    some = sorted(images.iterdir())[:2]
    run = "memory://bucket/run"
    listed = locate("memory://bucket/list.txt")
    assert main(["explain", *map(str, some), "--out", run, *QUICK]) == 0
    capsys.readouterr()
    assert main(["explain", *map(str, some), "--out", run, *QUICK]) == 0
    assert "(2 of them by an earlier run)" in capsys.readouterr().err
    assert explain(images, run, "--conf", "0.99") == 2
    assert "with another configuration (conf: 0.25, now 0.99)" in capsys.readouterr().err
    listed.write_text("not ours")
    assert explain(images, run, "--overwrite", "--conf", "0.99") == 0
    assert not [name for name in contents(run) if name.startswith("/overlays/") and "panel" not in name]
    assert explain(images, run, "--overwrite") == 0
    assert contents(run) == contents(whole)
    assert listed.read_text() == "not ours"


def test_a_connection_that_ends_loses_nothing(images, whole, tmp_path, capsys):
    Shelf.left = 10
    run = f"shelf://{tmp_path}/run"
    assert explain(images, run) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("detcam explain:")]
    assert "the connection was reset" in line
    assert run in line
    assert len(list((tmp_path / "run").glob(".parts/*.parquet"))) == 1
    Shelf.left = 10_000
    assert explain(images, run) == 0
    assert "(1 of them by an earlier run)" in capsys.readouterr().err
    assert contents(tmp_path / "run") == contents(whole)


def test_a_file_system_without_whole_files_gets_them_by_renaming(tmp_path, images, whole, monkeypatch):
    target = locate(f"shelf://{tmp_path}/a.bin")
    write_whole(target, lambda file: file.write(b"first"))
    assert (tmp_path / "a.bin").read_bytes() == b"first"

    def half(path, data):
        with path.open("wb") as file:
            file.write(data[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(target), "write_bytes", half)
        with pytest.raises(OSError, match="No space left"):
            write_whole(target, lambda file: file.write(b"second"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.bin", b"first")]
    assert explain(images, f"shelf://{tmp_path}/run") == 0
    assert contents(tmp_path / "run") == contents(whole)


def test_addresses():
    assert locate("runs/x").as_posix() == "runs/x"
    assert is_local(locate("file:///tmp/x"))
    assert str(locate("file:///tmp/x")) == "/tmp/x"
    assert not is_local(locate("memory://x"))
    with pytest.raises(UsageError, match="for patterns"):
        locate("memory://bucket/run[1]")
    with pytest.raises(UsageError, match="nowhere"):
        locate("nowhere://x/y")
    with pytest.raises(UsageError, match="a review keeps its folder on this machine, got memory://x/y"):
        on_this_machine("memory://x/y", "a review keeps its folder")


@pytest.mark.parametrize("command", ["review", "evaluate", "plant"])
def test_commands_whose_folder_is_local_say_so(command, capsys):
    options = ["--weights", str(WEIGHTS), "--data", "set.json", "--out", "memory://bucket/run"]
    assert main([command, *options]) == 2
    assert "on this machine, got memory://bucket/run" in capsys.readouterr().err
    assert not MemoryFileSystem.store


@pytest.mark.parametrize("place", ["memory://tables", None])
def test_many_tables_are_read_in_few(place, tmp_path, monkeypatch):
    monkeypatch.setattr("detcam.io.files._FILES_AT_ONCE", 3)
    folder = locate(place or tmp_path)
    paths = [folder / (f"{number}.parquet" if place else f"[{number}].parquet") for number in range(7)]
    for number, path in enumerate(paths):
        write_whole(path, pl.DataFrame({"number": [number]}).write_parquet)
    tables = list(read_tables(paths))
    assert [len(table) for table in tables] == [3, 3, 1]
    assert sorted(pl.concat(tables)["number"]) == list(range(7))
    remove_files([*paths, folder / "gone"])
    assert not any(path.exists() for path in paths)


@pytest.fixture
def photographs(images):
    """The images in a store, beside a file of another kind and one whose name looks like a pattern."""
    store = fsspec.filesystem("memory")
    for path in images.iterdir():
        store.pipe_file(f"/bucket/photographs/deep/{path.name}", path.read_bytes())
    store.pipe_file("/bucket/photographs/notes.txt", b"not an image")
    store.pipe_file("/bucket/photographs/odd[1].png", (images / "0.png").read_bytes())
    return "memory://bucket/photographs"


def test_images_in_a_store_are_found_and_read(photographs, images):
    deep = [f"{photographs}/deep/{number}.png" for number in range(4)]
    assert list(expand([photographs])) == [*deep, f"{photographs}/odd[1].png"]
    assert list(expand([f"{photographs}/deep/*.png"])) == deep
    assert list(expand([f"{photographs}/**/2.png", deep[3], deep[3]])) == deep[2:]
    assert list(expand([f"{photographs}/odd[1].png"])) == [f"{photographs}/odd[1].png"]
    for number, address in enumerate(deep):
        assert np.array_equal(read_image(address), read_image(images / f"{number}.png"))
    assert np.array_equal(read_image(f"{photographs}/odd[1].png"), read_image(images / "0.png"))
    assert detcam.explain(WEIGHTS, deep[1], method="random").source == deep[1]


def test_names_with_two_colons_and_addresses_with_a_host(tmp_path):
    (tmp_path / "a::b.png").write_bytes(b"bytes")
    (found,) = list_remote(f"shelf://{tmp_path}", (".png",))
    assert found == f"shelf://{tmp_path}/a::b.png"
    assert read_remote(found) == b"bytes"

    class Azure(MemoryFileSystem):
        """Its addresses hold the account after the container, its paths do not."""

        protocol = "abfs"

        @classmethod
        def _strip_protocol(cls, path):
            container, _, rest = str(path).removeprefix("abfs://").partition("/")
            return "/".join([container.partition("@")[0], rest]).strip("/")

        def find(self, path, **_):
            return [f"{path}/a.png"]

        def unstrip_protocol(self, name):
            return f"abfs://{name}"

    fsspec.register_implementation("abfs", Azure, clobber=True)
    assert list_remote("abfs://box@account.net/x", (".png",)) == ["abfs://box/x/a.png"]
    assert list_remote("abfs://box/x", (".png",)) == ["abfs://box/x/a.png"]


def test_what_a_store_does_not_hold_is_told(photographs):
    sources = [f"{photographs}/none", f"{photographs}/*.tif", f"{photographs}/a.mp4", f"{photographs}/list.txt"]
    missing = list(expand(sources))
    assert [one.source for one in missing] == sources
    assert [one.reason.split(";")[0] for one in missing] == ["no images there"] * 2 + [
        "a list, a labelled set or a video has to be on this machine"
    ] * 2
    fsspec.filesystem("memory").pipe_file("/top.png", b"")
    assert "memory://top.png" in list_remote("memory://", (".png",))
    with pytest.raises(InputError, match=r"memory://bucket/photographs/gone.png: no such file"):
        read_image(f"{photographs}/gone.png")
    assert find_images([f"{photographs}/deep/0.png"])[0] == []


def test_a_run_from_a_store_to_a_store(photographs, images, whole, tmp_path, capsys):
    run = "memory://bucket/run"
    assert explain(f"{photographs}/deep", run, "--every", "1") == 0
    ours, known = read_detections(run), read_detections(whole)
    assert ours["image"].str.split("/").list.last().to_list() == known["image"].str.split("/").list.last().to_list()
    assert ours.drop("id", "image", "heatmap").equals(known.drop("id", "image", "heatmap"))
    assert "working_directory" not in json.loads((locate(run) / "run.json").read_text())["configuration"]
    capsys.readouterr()
    assert explain(f"{photographs}/deep", run, "--every", "1") == 0
    assert "(4 of them by an earlier run)" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text(f"{photographs}/deep/0.png\n{photographs}/gone.png\n")
    assert explain(tmp_path / "list.txt", tmp_path / "run") == 1
    assert "gone.png: no such file" in capsys.readouterr().err
