import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from detcam.errors import InputError, UsageError
from detcam.io import video
from detcam.io.video import Clip, VideoWriter, count_frames, is_stream, is_video, read_frames

FRAMES = 60
FPS = 25


def barcode(number):
    """A picture (48, 64, 3) of eight bars, black or white: a number in binary."""
    bars = np.array([number >> bit & 1 for bit in range(8)], np.uint8) * 255
    return bars.repeat(8)[None, :, None].repeat(48, 0).repeat(3, 2)


def record(path, codec="MJPG", count=FRAMES, fps=FPS):
    """A video by OpenCV; every frame holds its number."""
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert file.isOpened()
    for number in range(count):
        file.write(barcode(number))
    file.release()
    return str(path)


def numbers(frames):
    """The numbers the frames hold."""
    return [number(frame.pixels) for frame in frames]


def number(picture):
    return sum(int(picture[24, 8 * bit + 4, 1] > 127) << bit for bit in range(8))


class Camera:
    """A capture of so many frames; those numbered in ``broken`` cannot be had. Its frames are blue, as BGR."""

    def __init__(self, frames=4, fps=10.0, count=-1.0, broken=(), opened=True):
        self.frames, self.told, self.broken, self.opened = frames, (fps, count), broken, opened
        self.number, self.source, self.released, self.retrieved = -1, None, False, 0

    def __call__(self, source):
        self.source = source
        return self

    def isOpened(self):  # noqa: N802  (OpenCV's name)
        return self.opened

    def get(self, prop):
        return self.told[prop == cv2.CAP_PROP_FRAME_COUNT]

    def set(self, prop, value):
        assert prop == cv2.CAP_PROP_ORIENTATION_AUTO
        return False  # as cameras say

    def grab(self):
        self.number += 1
        return self.number < self.frames

    def retrieve(self):
        self.retrieved += 1
        if self.number in self.broken:
            return False, None
        return True, np.full((4, 6, 3), (255, 0, self.number), np.uint8)

    def release(self):
        self.released = True


@pytest.fixture
def plug_in(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "text.mp4"):
        Path(name).write_bytes(b"\0\0\0\x18ftypmp42")

    def install(**settings):
        camera = Camera(**settings)
        monkeypatch.setattr(cv2, "VideoCapture", camera)
        return camera

    return install


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("mov", "mp4v"), ("mkv", "mp4v"), ("webm", "VP80")]
)
def test_every_nth_frame_under_its_own_number(tmp_path, suffix, codec):
    path = record(tmp_path / f"a.{suffix}", codec)
    frames = list(read_frames(path))
    assert [frame.name for frame in frames] == [f"{path}#{number:06d}" for number in range(FRAMES)]
    assert numbers(frames) == list(range(FRAMES))
    assert frames[0].clip == Clip(path, FPS)
    third = list(read_frames(path, every=7))
    assert numbers(third) == list(range(0, FRAMES, 7))
    assert third[1].name == f"{path}#000007"
    assert third[1].clip == Clip(path, FPS / 7)
    assert (count_frames(path), count_frames(path, 7)) == (FRAMES, len(third))


def test_frames_are_turned_upright(tmp_path):
    path = tmp_path / "a.mp4"
    record(path, "mp4v")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)  # a quarter clockwise
    path.write_bytes(data)
    frames = list(read_frames(str(path)))
    assert [number(np.rot90(frame.pixels)) for frame in frames] == list(range(FRAMES))


def test_frames_are_rgb_and_stay_as_they_are(plug_in):
    plug_in()
    frames = list(read_frames("camera:0"))[:-1]
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.pixels, np.full((4, 6, 3), (number, 0, 255)))
        assert not frame.pixels.flags.writeable


def test_a_frame_that_fails_is_named_and_the_rest_goes_on(plug_in):
    plug_in(frames=4, broken={1}, count=4.0)
    frames = list(read_frames("a.mp4"))
    assert [isinstance(frame.pixels, InputError) for frame in frames] == [False, True, False, False]
    assert str(frames[1].pixels) == "a.mp4#000001: this frame cannot be decoded"


def test_a_file_that_ends_early_says_so(tmp_path):
    path = tmp_path / "a.avi"
    record(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = read_frames(str(path))
    assert 0 < len(frames) < FRAMES - FPS
    assert numbers(frames) == list(range(len(frames)))
    assert last.name == str(path)
    assert str(last.pixels) == f"{path}: damaged or cut off: {len(frames)} of {FRAMES} frames decoded"


@pytest.mark.parametrize(("missing", "told"), [(10, False), (11, True)])
def test_a_header_may_be_a_second_off(plug_in, missing, told):
    plug_in(frames=20, fps=10.0, count=20.0 + missing)
    last = list(read_frames("a.mp4"))[-1]
    assert isinstance(last.pixels, InputError) == told


def test_a_file_without_a_frame_says_so(plug_in):
    plug_in(frames=0, count=0.0)
    (only,) = read_frames("a.mp4")
    assert str(only.pixels) == "a.mp4: damaged or cut off: 0 of 0 frames decoded"


@pytest.mark.parametrize(("source", "frames"), [("camera:0", 4), ("rtsp://host/stream", 2)])
def test_a_stream_that_ends_says_so(plug_in, source, frames):
    plug_in(frames=frames)
    last = list(read_frames(source))[-1]
    assert (last.name, str(last.pixels)) == (source, f"{source}: gave no more after {frames} frames")


def test_a_stream_that_knows_its_length_may_end(plug_in):
    plug_in(frames=4, count=4.0)
    assert [frame.name[-7:] for frame in read_frames("https://host/a.mp4")] == [f"#00000{n}" for n in range(4)]


@pytest.mark.parametrize(("told", "fps"), [(0.0, 30.0), (90_000.0, 30.0), (float("nan"), 30.0), (12.5, 12.5)])
def test_a_rate_that_is_none(plug_in, told, fps):
    plug_in(fps=told)
    assert next(read_frames("camera:0", every=2)).clip == Clip("camera:0", fps / 2)


@pytest.mark.parametrize(
    ("source", "kind"), [("camera:7", "camera"), ("rtsp://host/x", "stream"), ("text.mp4", "video")]
)
def test_what_cannot_be_opened(plug_in, source, kind):
    camera = plug_in(opened=False)
    (only,) = read_frames(source)
    assert (only.name, only.clip, str(only.pixels)) == (source, None, f"{source}: cannot be opened as a {kind}")
    assert camera.released


def test_a_file_that_is_no_video(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    (only,) = read_frames(str(path))
    assert str(only.pixels) == f"{path}: cannot be opened as a video"
    assert count_frames(str(path)) is None


def test_a_capture_is_released_when_nobody_wants_more(plug_in):
    camera = plug_in()
    frames = read_frames("camera:0")
    next(frames)
    assert not camera.released
    frames.close()
    assert camera.released


def test_a_password_is_used_and_not_written_down(plug_in):
    camera = plug_in(count=4.0)
    frame = next(read_frames("rtsp://me:secret@host:554/a@b"))
    assert frame.name == "rtsp://host:554/a@b#000000"
    assert frame.clip.name == "rtsp://host:554/a@b"
    assert camera.source == "rtsp://me:secret@host:554/a@b"


@pytest.mark.parametrize(
    ("source", "stream", "moving"),
    [
        ("camera:0", True, True),
        ("RTSP://host/a", True, True),
        ("http://host/a.jpg", True, True),
        ("a/b.MP4", False, True),
        ("a.jpg", False, False),
        ("camera:x", False, False),
        ("C:\\a.mkv", False, True),
        ("C://a.png", False, False),
    ],
)
def test_what_is_a_stream_and_what_a_video(source, stream, moving):
    assert (is_stream(source), is_video(source)) == (stream, moving)


@pytest.mark.parametrize("shape", [(48, 64), (47, 63), (1, 1)])
def test_pictures_come_back_from_the_video(tmp_path, shape):
    path = tmp_path / "a.mp4"
    colours = [(200, 30, 90), (20, 180, 60), (90, 90, 220)]
    with VideoWriter(path, 12.5) as file:
        for colour in colours:
            file.write(np.full((*shape, 3), colour, np.uint8))
        assert not path.exists()
    frames = list(read_frames(str(path)))
    assert [frame.clip for frame in frames] == [Clip(str(path), 12.5)] * 3
    assert [frame.pixels.shape for frame in frames] == [(shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)] * 3
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame.pixels.astype(int) - colour).max() < 12  # lossy, so near; channels swapped would be far
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def write(path, *shapes):
    with VideoWriter(path, 10) as file:
        for shape in shapes:
            file.write(np.zeros(shape, np.uint8))


def test_a_video_replaces_an_older_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("an older one")
    write(path, (48, 64, 3))
    assert count_frames(str(path)) == 1


def test_a_video_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("an older one")
    with pytest.raises(InputError, match=r"have one size, here \(48, 64, 3\), got \(50, 64, 3\)"):
        write(path, (48, 64, 3), (50, 64, 3))
    assert path.read_text() == "an older one"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_without_a_frame_is_no_file(tmp_path):
    write(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["gone/a.mp4", "a.what"])
def test_a_video_that_cannot_be_written(tmp_path, place):
    with pytest.raises(UsageError, match=r"cannot write .*: the folder must exist, and OpenCV .* 64 x 48 at 10 frames"):
        write(tmp_path / place, (48, 64, 3))
    assert not list(tmp_path.iterdir())


def test_a_video_that_lacks_frames_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "count_frames", lambda path: 1)
    with pytest.raises(UsageError, match=r"cannot write .*a\.mp4: of 2 frames it holds 1"):
        write(tmp_path / "a.mp4", (48, 64, 3), (48, 64, 3))
    assert not list(tmp_path.iterdir())


def test_a_file_is_never_taken_for_an_address(tmp_path, monkeypatch):
    """``tcp:`` before a name makes FFmpeg connect."""
    monkeypatch.chdir(tmp_path)
    record("a.mp4", "mp4v")
    Path("a.mp4").rename("tcp:127.0.0.1.mp4")
    assert len(list(read_frames("tcp:127.0.0.1.mp4"))) == FRAMES


def test_frames_of_too_many_pixels(tmp_path):
    path = record(tmp_path / "a.avi")
    (only,) = read_frames(path, max_pixels=64 * 48 - 1)
    assert "a.avi: 64 x 48 pixels are more than 3,071" in str(only.pixels)
    assert len(list(read_frames(path, max_pixels=64 * 48))) == FRAMES


def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (only,) = read_frames(str(tmp_path / "a.mp4"))
    assert str(only.pixels) == f"{tmp_path / 'a.mp4'}: no regular file"
    assert count_frames(str(tmp_path / "a.mp4")) is None
