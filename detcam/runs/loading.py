"""The images and frames of a run as one stream, decoded ahead of whoever works on them."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from detcam.data import read_data
from detcam.data.formats import read_registered
from detcam.errors import InputError, UsageError
from detcam.io import images, video
from detcam.io.images import read_image
from detcam.io.sources import SET_SUFFIXES, STDIN, Missing, expand, mode_of
from detcam.io.video import Clip, count_frames, is_stream, is_video, read_frames
from detcam.options import check_counts

Pixels: TypeAlias = NDArray[np.uint8]
Outcome: TypeAlias = "Pixels | Exception"

_JOIN_TIMEOUT_S = 1.0
"""How long to wait for the thread that finds items: one that reads a pipe or a camera cannot be interrupted."""


@dataclass(frozen=True, eq=False)
class Item:
    """One image of a run, or a source that gives none.

    Attributes:
        name: its path, or ``clip.mp4#000120`` for a frame; the same in every run, and no other image's.
        read: its pixels, read-only RGB uint8 (H, W, 3); raises InputError, always so where the source gives no image.
        clip: of a frame, the video it is of.
        found: whether there is something to read.
    """

    name: str
    read: Callable[[], Pixels]
    clip: Clip | None = None
    found: bool = True

    @property
    def is_file(self) -> bool:
        """Whether any process can read it by its name."""
        return self.found and self.clip is None


def find_items(
    sources: Sequence[str], every: int = 1, split: str = "val", max_pixels: int | None = None
) -> Iterator[Item]:
    """The images and frames of all sources in order, found as they are asked for.

    Args:
        sources: see :func:`detcam.io.sources.expand`; also videos, streams, and labelled sets (COCO JSON,
            ``data.yaml``, registered formats), whose images are taken.
        every: of a video, frames 0, ``every``, 2 ``every``, ...
        split: of a ``data.yaml``.
        max_pixels: of an image, as for :func:`detcam.io.images.read_image`.

    Raises:
        UsageError: ``every`` is no whole number from 1 on.
    """
    check_counts(every=every)
    return _items(sources, every, split, max_pixels)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive items in batches: files with files, frames with those of their video, failed sources by themselves.

    The same sources give the same batches in every run, on every engine.

    Args:
        items: of a run, in order.
        size: items in a batch at most.
    """
    for _, alike in groupby(items, lambda item: (item.found, item.clip)):
        while batch := list(islice(alike, size)):
            yield batch


def count_items(sources: Sequence[str], every: int = 1, split: str = "val") -> int | None:
    """How many items there are, failing ones included, without decoding any; None where only reading can tell.

    Args:
        sources: as for :func:`find_items`.
        every: of a video, frames 0, ``every``, 2 ``every``, ...
        split: of a ``data.yaml``.

    Raises:
        UsageError: ``every`` is no whole number from 1 on.
    """
    check_counts(every=every)
    total = 0
    if any(source == STDIN or _is_pipe(source) for source in sources):
        return None
    for found in _expand(sources, split):
        count: int | None = 1
        if isinstance(found, str) and is_video(found):
            count = None if is_stream(found) else count_frames(found, every)
        if count is None:
            return None
        total += count
    return total


def _is_pipe(source: str) -> bool:
    """Whether a source can be read only once."""
    mode = mode_of(Path(source))
    return bool(mode) and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def decoded(items: Iterable[Item], workers: int = 2, ahead: int = 4) -> Generator[tuple[Item, Outcome], None, None]:
    """Each item with its pixels, or with the error of reading it, in order.

    Items are found in a thread of their own and decoded in others. Threads and files are closed when the generator is
    closed, ends, or raises; what ``items`` raises is raised here.

    Args:
        items: of a run.
        workers: threads that decode.
        ahead: items decoded at most before they are asked for; so at most ``ahead + 1`` images are in memory.
    """
    queue: SimpleQueue[tuple[Item, Future[Outcome]] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(ahead)
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="detcam-decode")

    def feed() -> None:
        end: BaseException | None = None
        iterator = iter(items)
        try:
            while room.acquire() and not stop.is_set() and (item := next(iterator, None)):
                queue.put((item, pool.submit(_outcome, item)))
        except BaseException as error:
            end = error
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
            queue.put(end)

    feeder = threading.Thread(target=feed, name="detcam-find", daemon=True)
    feeder.start()
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            item, future = entry
            outcome = future.result()
            room.release()
            yield item, outcome
    finally:
        stop.set()
        room.release()
        pool.shutdown(cancel_futures=True)
        feeder.join(_JOIN_TIMEOUT_S)


def _outcome(item: Item) -> Outcome:
    try:
        return item.read()
    except (InputError, MemoryError, cv2.error) as error:
        return error


def _items(sources: Sequence[str], every: int, split: str, max_pixels: int | None) -> Iterator[Item]:
    for found in _expand(sources, split):
        if isinstance(found, Missing):
            yield Item(found.source, partial(_give, InputError(f"{found.source}: {found.reason}")), found=False)
        elif is_video(found):
            for frame in read_frames(found, every, max_pixels):
                yield Item(frame.name, partial(_give, frame.pixels), frame.clip, found=frame.clip is not None)
        else:
            pipes = found in sources  # one that is named itself
            yield Item(found, partial(read_image, found, max_pixels=max_pixels, pipes=pipes))


def _expand(sources: Sequence[str], split: str) -> Iterator[str | Missing]:
    return expand(sources, (*images.SUFFIXES, *video.SUFFIXES), partial(_read_set, split=split))


def _read_set(path: Path, split: str) -> Iterator[str | Missing]:
    """The images of a labelled set, and what keeps others from being read; its labels do not matter here.

    A file of another kind that no registered format reads is taken for an image.
    """
    try:
        known = path.suffix.lower() in SET_SUFFIXES
        labelled = read_data(path, split) if known else read_registered(path, split, None, None, None)
    except UsageError as error:
        yield Missing(str(path), str(error).removeprefix(f"{path}: "))
        return
    if labelled is None:
        yield str(path)
        return
    for image in labelled.images:
        yield str(image.path)
    labels = {path, *(image.path.stem for image in labelled.images)}
    for problem in labelled.problems:
        if problem.path not in labels and not (problem.path.suffix == ".txt" and problem.path.stem in labels):
            yield Missing(str(problem.path), problem.reason)


def _give(outcome: Outcome) -> Pixels:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
