"""Images named by files, folders, patterns and lists."""

import io
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from detcam.io.sources import Missing, expand, find_images
from support.source_files import make


@pytest.fixture
def pipe(monkeypatch):
    """Standard input that holds some bytes."""
    with ExitStack() as files:

        def put(data):
            reading, writing = os.pipe()
            os.write(writing, data)
            os.close(writing)
            monkeypatch.setattr(sys, "stdin", files.enter_context(os.fdopen(reading)))

        yield put


def test_files_folders_globs_and_lists(tmp_path):
    make(tmp_path, "a/1.jpg", "a/b/2.PNG", "a/notes.md", "c/3.jpeg", "c/4.tiff", "odd.name")
    (tmp_path / "list.txt").write_text("# a comment\nc/3.jpeg\n\na\nmissing.jpg\n", encoding="utf-8")
    images, missing = find_images([str(tmp_path / "odd.name"), str(tmp_path / "c" / "*"), str(tmp_path / "list.txt")])
    assert [str(path.relative_to(tmp_path)) for path in images] == [
        "odd.name",
        "c/3.jpeg",
        "c/4.tiff",
        "a/1.jpg",
        "a/b/2.PNG",
    ]
    assert [(Path(item.source).name, item.reason) for item in missing] == [("missing.jpg", "no such file or folder")]


def test_an_image_named_twice_is_taken_once(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg")
    images, _ = find_images([str(tmp_path), str(tmp_path / "a.jpg"), str(tmp_path / "*.jpg")])
    assert images == [tmp_path / "a.jpg"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.jpg\n./a.jpg\n.\n")
    assert find_images(["list.txt"]) == ([Path("a.jpg")], [])


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    make(tmp_path, "a[1].jpg", "a1.jpg")
    images, missing = find_images([str(tmp_path / "a[1].jpg")])
    assert images == [tmp_path / "a[1].jpg"]
    assert not missing


def test_empty_sources_say_why(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    _, missing = find_images([str(tmp_path / "empty"), str(tmp_path / "empty.txt"), str(tmp_path / "*.bmp")])
    reasons = [item.reason for item in missing]
    assert "no images in this folder" in reasons[0]
    assert reasons[1:] == ["this list names no images", "no image matches this pattern"]


def test_a_folder_is_searched_in_the_order_of_paths(tmp_path, monkeypatch):
    make(
        tmp_path, "b.jpg", "a/z.jpg", "a.jpg", "a/b/1.png", "a/c.JPG", ".hidden/x.png", "a/text.md", "folder.jpg/1.jpg"
    )
    monkeypatch.chdir(tmp_path)
    every = sorted(path for path in Path().rglob("*") if path.suffix.lower() in (".jpg", ".png") and path.is_file())
    assert find_images(["."]) == (every, [])
    assert len(every) == 7


def test_a_link_is_followed_to_files_only(tmp_path):
    make(tmp_path, "real/a.jpg")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "b.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    (tmp_path / "real" / "c.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "real" / "d.jpg").symlink_to(tmp_path)
    images, _ = find_images([str(tmp_path / "real")])
    assert [path.name for path in images] == ["a.jpg", "b.jpg", "c.jpg"]  # reading the last one fails, by its name
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_images([str(tmp_path / "link")])[0] == [tmp_path / "link" / path.name for path in images]


def test_a_folder_that_cannot_be_read_says_so(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def guarded(folder):
        if Path(folder).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    images, missing = find_images([str(tmp_path)])
    assert images == [tmp_path / "b" / "2.jpg"]
    assert missing == [Missing(str(tmp_path / "a"), "this folder cannot be read: Permission denied")]


def test_a_folder_is_neither_read_ahead_nor_asked_about_every_file(tmp_path, monkeypatch):
    make(tmp_path, *(f"{folder}/{number}.jpg" for folder in "ab" for number in range(50)))
    asked, opened = [], []
    stat, scandir = Path.stat, os.scandir
    monkeypatch.setattr(Path, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    monkeypatch.setattr(os, "scandir", lambda folder: opened.append(folder) or scandir(folder))
    found = expand([str(tmp_path)])
    assert next(found) == str(tmp_path / "a" / "0.jpg")
    assert opened == [tmp_path, tmp_path / "a"]
    assert len(list(found)) == 99
    assert set(asked) == {tmp_path}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_every_encoding(tmp_path, encoding, end):
    make(tmp_path, "größe.jpg", "二.png")
    (tmp_path / "list.txt").write_bytes(end.join(["größe.jpg", "# none", " 二.png "]).encode(encoding))
    assert find_images([str(tmp_path / "list.txt")]) == ([tmp_path / "größe.jpg", tmp_path / "二.png"], [])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_a_list_names_files_whose_names_are_no_text(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")).touch()
    (image,), missing = find_images([str(tmp_path / "list.txt")])
    assert image.exists()
    assert not missing


def test_a_list_is_relative_to_itself_or_else_to_where_we_are(tmp_path, monkeypatch):
    make(tmp_path, "lists[1]/a.jpg", "a.jpg", "b.jpg", "lists[1]/c/d.png")
    (tmp_path / "lists[1]" / "list.txt").write_text("a.jpg\nb.jpg\nc/*\nd.jpg")
    monkeypatch.chdir(tmp_path)
    images, missing = find_images(["lists[1]/list.txt"])
    assert images == [Path("lists[1]/a.jpg"), Path("b.jpg"), Path("lists[1]/c/d.png")]
    assert missing == [Missing("lists[1]/d.jpg", "no such file or folder")]


def test_lines_that_name_nothing(tmp_path):
    make(tmp_path, "inner.txt")
    (tmp_path / "list.txt").write_bytes(b"inner.txt\na\0b.jpg\n-\n")
    images, missing = find_images([str(tmp_path / "list.txt")])
    assert not images
    assert [(Path(item.source).name, item.reason) for item in missing] == [
        ("inner.txt", "a list inside a list"),
        ("a\0b.jpg", "no such file or folder"),
        ("-", "no such file or folder"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_on_standard_input(tmp_path, monkeypatch, pipe, encoding):
    make(tmp_path, "a.jpg", "b/c.png", "list.txt")
    monkeypatch.chdir(tmp_path)
    pipe("a.jpg\r\nb\r\n\r\nlist.txt".encode(encoding))
    assert find_images(["-"]) == ([Path("a.jpg"), Path("b/c.png")], [Missing("list.txt", "a list inside a list")])
    pipe(b"")
    assert find_images(["-"]) == ([], [Missing("-", "this list names no images")])


@pytest.mark.parametrize("stdin", [None, io.StringIO("a.jpg")])
def test_no_standard_input(monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)
    assert find_images(["-"]) == ([], [Missing("-", "there is no standard input")])


def test_a_stream_is_no_image():
    assert find_images(["camera:0"]) == (
        [],
        [Missing("camera:0", "a stream or an address, where images of this machine are asked for")],
    )


def test_an_address_of_this_machine(tmp_path):
    (tmp_path / "a.png").touch()
    assert list(expand([f"file://{tmp_path}", f"local://{tmp_path}/a.png"])) == [str(tmp_path / "a.png")]


def test_one_bad_entry_does_not_take_its_folder_with_it(tmp_path):
    make(tmp_path, "good.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    for source in (str(tmp_path), str(tmp_path / "*.jpg")):
        found = list(expand([source]))
        assert [one for one in found if "good" in str(one)] == [str(tmp_path / "good.jpg")]
        special = [Missing(str(tmp_path / name), "no regular file") for name in ("device.jpg", "pipe.jpg")]
        assert [one for one in found if isinstance(one, Missing)] == special


def test_a_line_too_long_for_a_name(tmp_path):
    make(tmp_path, "good.jpg")
    (tmp_path / "list.txt").write_text("x" * 1_000_000 + "\ngood.jpg\n")
    cut, good = expand([str(tmp_path / "list.txt")])
    assert (len(cut.source) < 100, cut.reason) == (True, "a name of 16,384 characters, which no file has")
    assert good == str(tmp_path / "good.jpg")
