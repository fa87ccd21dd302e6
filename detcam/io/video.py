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
from detcam.io.files import is_remote
from detcam.io.images import read_image

SUFFIXES = (".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")

_CAMERA = re.compile(r"camera:(\d+)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.+", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
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
    capture = cv2.VideoCapture(source)
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
    return -(-count // every) if count > 0 else None


def read_frames(source: str, every: int = 1) -> Iterator[Frame]:
    """Frames 0, ``every``, 2 ``every``, ... of a video, in order, one at a time.

    Frames are counted as they are decoded, without seeking, so a frame of a file has the same number in every run. A
    source that cannot be opened, a file that ends more than a second before its header says, and a stream that ends
    give one last frame whose ``pixels`` is the error.

    Args:
        source: a video file, ``camera:NUMBER``, or a stream's address.
        every: from 1.
    """
    camera = _CAMERA.fullmatch(source)
    name = _PASSWORD.sub("", source)
    capture = cv2.VideoCapture(int(camera[1]) if camera else source)
    try:
        if not capture.isOpened():
            kind = "camera" if camera else "stream" if is_stream(source) else "video"
            yield Frame(name, None, InputError(f"{name}: cannot be opened as a {kind}"))
            return
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # not every release turns telephones' videos by itself
        stated_fps = capture.get(cv2.CAP_PROP_FPS)
        fps = stated_fps if 0 < stated_fps < 1000 else _DEFAULT_FPS  # RTP streams may state their clock's 90,000
        clip = Clip(name, fps / every)
        number = 0
        while capture.grab():
            frame = f"{name}#{number:06d}"
            if number % every == 0:
                decoded, bgr = capture.retrieve()
                failed = None if decoded else InputError(f"{frame}: this frame cannot be decoded")
                yield Frame(frame, clip, failed or read_image(bgr, bgr=True))
            number += 1
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # often computed from duration and rate, so a little off
        if number == 0 or count - number > fps:
            yield Frame(name, clip, InputError(f"{name}: damaged or cut off: {number} of {count:.0f} frames decoded"))
        elif is_stream(source) and count <= 0:
            yield Frame(name, clip, InputError(f"{name}: gave no more after {number} frames"))
    finally:
        capture.release()


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
