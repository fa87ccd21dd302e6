"""Images and frames one by one: what is found, in which batches, and decoded ahead in order."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import cv2
import numpy as np
import pytest

from detcam.errors import InputError, UsageError
from detcam.runs.loading import Item, batches, count_items, decoded, find_items
from support.source_files import draw, film, make, names

PATIENCE = 20  # seconds until something that must happen counts as not happening


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
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftyp no video")
    monkeypatch.chdir(tmp_path)
    opened = []
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or capture(source))
    assert count_items(["a.png"]) == 1
    assert count_items(["a.png", source]) is None
    assert opened == [str(tmp_path / source)] * source.endswith("mp4")  # a stream is not called upon


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
