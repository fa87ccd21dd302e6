"""Frames of video files, cameras and network streams; pictures written as a video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from detcam.errors import InputError, UsageError
from detcam.io.documents import opened
from detcam.io.files import is_remote
from detcam.io.images import read_image
from detcam.io.limits import check_pixels, most_pixels

SUFFIXES = (".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")

_CAMERA = re.compile(r"camera:(\d+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.+", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
_STARTS = (b"RIFF", b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"\x47")
"""How AVI, Matroska and WebM, ASF, MPEG program streams, MPEG video, and transport streams begin."""
_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
"""What stands first in MP4 and QuickTime files, behind its length."""
_MOST_FRAMES = 2**40
"""A header that tells of more, or of sides as long, tells nothing."""
_DEFAULT_FPS = 30.0
"""Frames a second, where a source does not say."""


@dataclass(frozen=True)
class Clip:
    """The video that frames belong to.

    Attributes:
        name: the source without its password.
        fps: how many of the frames that are taken make a second.
    """

    name: str
    fps: float


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video, or an error in place of frames that cannot be read.

    Attributes:
        name: ``clip.mp4#000120`` for the 121st frame of the file; the clip's name where all frames are meant.
        clip: the video; None where it could not be opened.
        pixels: read-only RGB uint8 (H, W, 3), upright as the file says; or the error that says why there are none.
    """

    name: str
    clip: Clip | None
    pixels: NDArray[np.uint8] | InputError


def is_stream(source: str) -> bool:
    """Whether a source is ``camera:NUMBER`` or an address such as ``rtsp://``, and so no path and no stored file."""
    return bool(_CAMERA.fullmatch(source) or (_ADDRESS.fullmatch(source) and not is_remote(source)))


def is_video(source: str) -> bool:
    """Whether a source is a stream, or a file whose suffix is a video's."""
    return is_stream(source) or source.lower().endswith(SUFFIXES)


def count_frames(source: str, every: int = 1) -> int | None:
    """How many frames :func:`read_frames` will take of a video, by its header; None where the header does not say.

    Args:
        source: a video file.
        every: take every so many frames.
    """
    try:
        _check_file(source)
    except InputError:
        return None
    capture = cv2.VideoCapture(_unmistakable(source))
    try:
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    return -(-int(count) // every) if 0 < count < _MOST_FRAMES else None


def _check_file(source: str) -> None:
    """Refuse a file that is no video, before a decoder that knows a hundred kinds is given it: playlists among them.

    Raises:
        InputError: it is no regular file, or begins as no container of :data:`SUFFIXES` does; the path is not named.
    """
    try:
        with opened(source) as file:
            start = file.read(16)
    except FileNotFoundError as error:
        raise InputError("no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not start.startswith(_STARTS) and start[4:8] not in _ATOMS:
        raise InputError("cannot be opened as a video")


def _unmistakable(source: str) -> str:
    """A file's path as no decoder takes it for an address: ``tcp:a.mp4``."""
    return str(Path(source).absolute())


def read_frames(source: str, every: int = 1, max_pixels: int | None = None) -> Iterator[Frame]:
    """Frames 0, ``every``, 2 ``every``, ... of a video, in order, one at a time.

    Frames are counted as they are decoded, without seeking, so a frame of a file has the same number in every run. A
    source that cannot be opened, a file that ends more than a second before its header says, and a stream that ends
    give one last frame whose ``pixels`` is the error.

    Args:
        source: a video file, ``camera:NUMBER``, or a stream's address.
        every: from 1.
        max_pixels: of a frame, as for :func:`detcam.io.images.read_image`.
    """
    camera = _CAMERA.fullmatch(source)
    name = _PASSWORD.sub("", source)
    if not is_stream(source):
        try:
            _check_file(source)
        except InputError as error:
            yield Frame(name, None, InputError(f"{name}: {error}"))
            return
    capture = cv2.VideoCapture(int(camera[1]) if camera else source if is_stream(source) else _unmistakable(source))
    try:
        if not capture.isOpened():
            kind = "camera" if camera else "stream" if is_stream(source) else "video"
            yield Frame(name, None, InputError(f"{name}: cannot be opened as a {kind}"))
            return
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # not every release turns telephones' videos by itself
        stated_fps = capture.get(cv2.CAP_PROP_FPS)
        fps = stated_fps if 0 < stated_fps < 1000 else _DEFAULT_FPS  # RTP streams may state their clock's 90,000
        clip = Clip(name, fps / every)
        sides = [capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        try:  # before a frame is decoded; a stream may not say
            width, height = (int(side) if 0 < side < _MOST_FRAMES else 1 for side in sides)
            check_pixels(width, height, most_pixels(max_pixels))
        except InputError as error:
            yield Frame(name, clip, InputError(f"{name}: {error}"))
            return
        number = 0
        while capture.grab():
            frame = f"{name}#{number:06d}"
            if number % every == 0:
                yield Frame(frame, clip, _retrieved(capture, frame, max_pixels))
            number += 1
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # often computed from duration and rate, so a little off
        if number == 0 or count - number > fps:
            yield Frame(name, clip, InputError(f"{name}: damaged or cut off: {number} of {count:.0f} frames decoded"))
        elif is_stream(source) and count <= 0:
            yield Frame(name, clip, InputError(f"{name}: gave no more after {number} frames"))
    finally:
        capture.release()


def _retrieved(capture: cv2.VideoCapture, frame: str, max_pixels: int | None) -> NDArray[np.uint8] | InputError:
    """The frame that was grabbed last, or why there is none."""
    try:
        decoded, bgr = capture.retrieve()
        if not decoded:
            return InputError(f"{frame}: this frame cannot be decoded")
        return read_image(bgr, bgr=True, max_pixels=max_pixels)
    except (InputError, cv2.error) as error:
        return InputError(f"{frame}: this frame cannot be decoded: {' '.join(str(error).split())}")


class VideoWriter:
    """Writes pictures as an ``.mp4`` (MPEG-4 Part 2), under another name until it is complete.

    Leaving the ``with`` block renames it; after an exception, or without a frame, nothing is left.

    Args:
        path: where to; an existing file is replaced.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # the suffix tells OpenCV the format
        self._fps = fps
        self._file: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()
        self._written = 0

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Add a frame; an odd height or width grows by a row or column, as the codec needs.

        Args:
            picture: RGB uint8 (H, W, 3), of the first frame's size.

        Raises:
            UsageError: no such video can be written there.
            InputError: a frame of another size than the first.
        """
        height, width = picture.shape[:2]
        if self._file is None:
            size = (width + width % 2, height + height % 2)
            self._file = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
            self._shape = picture.shape
        if not self._file.isOpened():
            raise UsageError(
                f"cannot write {self.path}: the folder must exist, and OpenCV be able to write MPEG-4 video (mp4v), "
                f"here of {width} x {height} at {self._fps:g} frames a second; the opencv-python wheels can"
            )
        if picture.shape != self._shape:
            raise InputError(f"{self.path}: frames of a video have one size, here {self._shape}, got {picture.shape}")
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        self._file.write(cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.release()
        try:
            if kind is None and self._written:
                readable = count_frames(str(self._partial))
                if readable != self._written:  # OpenCV does not report a full disk
                    raise UsageError(f"cannot write {self.path}: of {self._written} frames it holds {readable or 0}")
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
