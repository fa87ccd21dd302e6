import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detcam.errors import InputError, UsageError
from detcam.io.sources import Missing, expand, find_images
from detcam.runs.loading import Item, batches, count_items, decoded, find_items
from support.images import photograph

PATIENCE = 20  # seconds until something that must happen counts as not happening


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def draw(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(40, 60, len(name))).save(path)


def film(path, count=6):
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(count):
        file.write(np.full((48, 64, 3), 30 * number, np.uint8))
    file.release()
    return str(path)


def names(found):
    return [item.name for item in found]


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


def test_items_are_images_frames_and_what_fails(tmp_path):
    draw(tmp_path, "in/a.png", "in/c.jpg")
    clip = film(tmp_path / "in" / "b.avi")
    (tmp_path / "in" / "d.jpg").write_text("no image")
    sources = [str(tmp_path / "in"), str(tmp_path / "gone"), clip]
    found = list(find_items(sources, every=4))
    inside = str(tmp_path / "in")
    assert names(found) == [
        f"{inside}/a.png",
        f"{clip}#000000",
        f"{clip}#000004",
        f"{inside}/c.jpg",
        f"{inside}/d.jpg",
        str(tmp_path / "gone"),
    ]
    assert [item.clip and item.clip.fps for item in found] == [None, 2.5, 2.5, None, None, None]
    outcomes = [outcome for _, outcome in decoded(found)]
    assert [getattr(outcome, "shape", None) for outcome in outcomes] == [
        (40, 60, 3), (48, 64, 3), (48, 64, 3), (40, 60, 3), None, None,
    ]  # fmt: skip
    assert str(outcomes[4]).startswith(f"{inside}/d.jpg: not an image")
    assert str(outcomes[5]) == f"{tmp_path / 'gone'}: no such file or folder"
    assert count_items(sources, every=4) == len(found)


def test_batches_are_of_one_kind_and_the_same_in_every_run(tmp_path):
    draw(tmp_path, "a.png", "c.png", "d.png", "e.png")
    clip = film(tmp_path / "b.avi")
    gone = str(tmp_path / "gone.png")
    (tmp_path / "list.txt").write_text("c.png\nd.png\ngone.png\ne.png\na.png\nb.avi\n")
    found = [names(batch) for batch in batches(find_items([str(tmp_path / "list.txt")]), 3)]
    files = [str(tmp_path / f"{name}.png") for name in "cdea"]
    assert found[:3] == [files[:2], [gone], files[2:]]
    frames = [name for batch in found[3:] for name in batch]
    assert frames == [f"{clip}#{number:06d}" for number in range(len(frames))]
    assert [len(batch) for batch in found[3:-1]] == [3] * (len(found) - 4)


def test_items_are_found_as_they_are_asked_for(tmp_path, monkeypatch):
    draw(tmp_path, "a.png")
    clip = film(tmp_path / "b.avi")
    opened = []
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or capture(source))
    found = find_items([str(tmp_path)])
    assert next(found).name == str(tmp_path / "a.png")
    assert not opened
    next(found)
    assert opened == [clip]


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_is_a_count(every):
    for function in (find_items, count_items):
        with pytest.raises(UsageError, match=f"every must be a whole number, at least 1, got {every}"):
            function(["a.mp4"], every=every)


def test_the_images_of_a_coco_set(tmp_path):
    draw(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    entries = [{"id": n, "file_name": name} for n, name in enumerate(["b.png", "gone.png", "a.png"])]
    document = {"images": entries, "annotations": [{"id": 1, "image_id": 99}], "categories": [{"id": 0, "name": "x"}]}
    (tmp_path / "set.json").write_text(json.dumps(document))
    found = list(find_items([str(tmp_path / "set.json"), str(tmp_path / "images" / "b.png")]))
    assert names(found) == [str(tmp_path / place) for place in ("images/b.png", "images/a.png", "gone.png")]
    assert found[0].read().shape == (40, 60, 3)
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        found[2].read()


@pytest.mark.parametrize("labels", [None, "0 0.5 0.5 0.2 0.2\n9 9\n"])
def test_the_images_of_a_yolo_set(tmp_path, labels):
    draw(tmp_path, "images/val/a.png", "images/test/b.png", "images/test/c.png")
    (tmp_path / "data.yaml").write_text("val: images/val\ntest: list.txt\nnames: [x]\n")
    (tmp_path / "list.txt").write_text("images/test/c.png\nimages/test/gone.png\n")
    if labels:
        make(tmp_path, "labels/test/c.txt")
        (tmp_path / "labels" / "test" / "c.txt").write_text(labels)
    found = list(find_items([str(tmp_path / "data.yaml")], split="test"))
    assert names(found) == [str(tmp_path / "images/test/c.png"), str(tmp_path / "list.txt")]
    with pytest.raises(InputError, match=r"list\.txt: line 2: no such file: images/test/gone\.png"):
        found[1].read()
    assert names(find_items([str(tmp_path / "data.yaml")])) == [str(tmp_path / "images/val/a.png")]


def test_a_set_that_is_broken_is_one_failure(tmp_path):
    draw(tmp_path, "a.png")
    (tmp_path / "set.json").write_text("{")
    broken, image = find_items([str(tmp_path / "set.json"), str(tmp_path)])
    with pytest.raises(InputError, match=r"^[^:]*set\.json: broken JSON at line 1"):
        broken.read()
    assert image.name == str(tmp_path / "a.png")


@pytest.mark.parametrize("source", ["-", "camera:0", "rtsp://host/a", "broken.mp4"])
def test_how_many_there_are_is_not_always_known(tmp_path, monkeypatch, source):
    draw(tmp_path, "a.png")
    (tmp_path / "broken.mp4").write_text("no video")
    monkeypatch.chdir(tmp_path)
    opened = []
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or capture(source))
    assert count_items(["a.png"]) == 1
    assert count_items(["a.png", source]) is None
    assert opened == [source] * source.endswith("mp4")  # a stream is not called upon


def items(count, read=lambda number: np.full((2, 2, 3), number, np.uint8)):
    return [Item(str(number), lambda number=number: read(number)) for number in range(count)]


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("detcam")]


def test_items_come_back_in_order_whichever_is_ready_first():
    second = threading.Event()

    def read(number):
        if number == 0:
            assert second.wait(PATIENCE)  # so the first is decoded after the second
        if number == 1:
            second.set()
        return np.full((2, 2, 3), number, np.uint8)

    assert [(item.name, int(pixels.max())) for item, pixels in decoded(items(9, read))] == [
        (str(n), n) for n in range(9)
    ]
    assert not threads()


def test_decoding_goes_ahead_so_far_and_no_further():
    """While the first item is held, the next ``ahead`` are decoded, and when those are, no more."""
    ready = threading.Semaphore(0)
    begun = []

    def read(number):
        begun.append(number)
        ready.release()
        return np.zeros((2, 2, 3), np.uint8)

    with closing(decoded(items(50, read), workers=3, ahead=4)) as stream:
        next(stream)
        for _ in range(5):
            assert ready.acquire(timeout=PATIENCE)
        assert not ready.acquire(timeout=0.2)
        assert sorted(begun) == [0, 1, 2, 3, 4]
        next(stream)
        assert ready.acquire(timeout=PATIENCE)
        assert not ready.acquire(timeout=0.2)


def test_what_cannot_be_read_takes_nothing_else_with_it():
    def read(number):
        if number == 1:
            raise InputError("broken")
        if number == 2:
            raise MemoryError
        return np.zeros((2, 2, 3), np.uint8)

    outcomes = [outcome for _, outcome in decoded(items(4, read))]
    assert [type(outcome) for outcome in outcomes] == [np.ndarray, InputError, MemoryError, np.ndarray]


def test_a_mistake_in_reading_is_raised():
    def read(number):
        return {}[number]

    with pytest.raises(KeyError, match="0"):
        list(decoded(items(3, read)))
    assert not threads()


def test_what_the_source_raises_is_raised_after_what_it_gave():
    def source():
        yield from items(2)
        raise UsageError("stop")

    stream = decoded(source())
    assert [next(stream)[0].name for _ in range(2)] == ["0", "1"]
    with pytest.raises(UsageError, match="stop"):
        next(stream)
    assert not threads()


def test_all_is_closed_when_nobody_wants_more():
    closed = threading.Event()

    def source():
        try:
            yield from items(1000)
        finally:
            time.sleep(0.2)
            closed.set()

    given = source()  # held here, so that only being closed ends it
    with closing(decoded(given)) as stream:
        next(stream)
        assert threads()
    assert closed.is_set()
    assert not threads()


def test_a_process_ends_though_its_standard_input_does_not(tmp_path):
    draw(tmp_path, "a.png")
    script = """
from contextlib import closing
from detcam.runs.loading import decoded, find_items
with closing(decoded(find_items(["-"]))) as stream:
    print(next(stream)[1].shape)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(f"{tmp_path / 'a.png'}\n")
        process.stdin.flush()
        assert process.wait(100) == 0, process.stderr.read()
        assert process.stdout.read() == "(40, 60, 3)\n"
    finally:
        process.kill()
        process.communicate()


def test_a_list_that_is_a_pipe_is_read_once(tmp_path):
    """Who counts what a pipe holds takes it from who works on it."""
    os.mkfifo(tmp_path / "list.txt")
    assert count_items([str(tmp_path / "list.txt")]) is None
    (tmp_path / "a.png").touch()
    assert count_items([str(tmp_path)]) == 1


def test_a_name_that_is_too_long_for_any_file(tmp_path):
    (tmp_path / "a.png").touch()
    name = "x" * 300
    assert count_items([name, str(tmp_path)]) == 2
    assert [item.found for item in find_items([name])] == [False]


def test_an_address_of_this_machine(tmp_path):
    (tmp_path / "a.png").touch()
    assert list(expand([f"file://{tmp_path}", f"local://{tmp_path}/a.png"])) == [str(tmp_path / "a.png")]
