"""Read, explain and write every image of a run, here or on many machines; a failure affects one image only."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from detcam.errors import InputError, UsageError
from detcam.explainer import PIECE_DETECTIONS, Explainer
from detcam.io.files import is_remote, locate
from detcam.io.images import read_image
from detcam.runs.folder import RunFolder
from detcam.runs.loading import Item, decoded
from detcam.runs.results import Pictures, Row, join_pieces, piece_starts, write_piece, write_result
from detcam.types import ImageResult

Pixels: TypeAlias = "NDArray[np.uint8] | Exception"

logger = logging.getLogger("detcam")

FAILURES = (InputError, RuntimeError, MemoryError, cv2.error)
"""Exceptions that fail one image and let the run go on."""
IMAGES_PER_TASK = 16
"""Images that a Ray worker gets at once; it decodes ahead within them."""
MOST_BLOCKS = 10_000
"""Blocks at most into which the work is split; Ray's driver keeps an entry for each."""


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image.

    Attributes:
        name: the image's, in the run.
        rows: one for each detection; empty where the image failed.
        reason: why it failed, or None.
    """

    name: str
    rows: list[Row]
    reason: str | None = None


def explain_chunk(explainer: Explainer, chunk: Sequence[tuple[str, Pixels]]) -> Iterator[ImageResult | ImageOutcome]:
    """A result for each image, or why there is none. One image's failure does not affect the others.

    Crowded images come back without explanations: see :meth:`~detcam.Explainer.explain_piece`.

    Args:
        explainer: whose batch the images share.
        chunk: names, and RGB uint8 (H, W, 3) arrays or the errors of reading them.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, pixels in chunk:
        if isinstance(pixels, Exception):
            yield ImageOutcome(name, [], reason_of(name, pixels))
        else:
            arrays[name] = pixels
    try:
        yield from explainer.explain_named(arrays, in_pieces=True)
    except FAILURES:
        for name, array in arrays.items():
            try:
                yield explainer.explain_named({name: array}, in_pieces=True)[0]
            except FAILURES as error:
                yield ImageOutcome(name, [], reason_of(name, error))


def explain_batches(
    explainer: Explainer,
    batches: Iterable[Sequence[Item]],
    workers: int,
    path: Path,
    pictures: Pictures,
    write: Callable[[ImageResult], list[Row]],
    done: Container[str],
) -> Iterator[ImageOutcome]:
    """Explain batches of items and write each one's result.

    Finished images are computed again with their batch, but not written: results differ in the last bits between
    batches of different images, and a resumed run should end with the same bytes. A batch of finished images alone is
    skipped.

    Args:
        explainer: makes the maps.
        batches: items that share a forward pass.
        workers: threads that decode images ahead of the detector.
        path: the run folder that results are written into.
        pictures: what to draw.
        write: writes one image's result there and returns its rows; those of crowded images are written in pieces.
        done: names of the images that are finished.

    Yields:
        What became of each image that was not finished, in order.
    """
    sizes: SimpleQueue[int] = SimpleQueue()

    def flat() -> Iterator[Item]:
        for batch in batches:
            sizes.put(len(batch))
            yield from batch

    with closing(decoded(flat(), workers, ahead=workers + explainer.batch)) as stream:
        for first in stream:
            chunk = [(item.name, pixels) for item, pixels in (first, *islice(stream, sizes.get() - 1))]
            finished = {name for name, _ in chunk if name in done}
            if all(name in finished or isinstance(pixels, Exception) for name, pixels in chunk):
                chunk = [(name, pixels) for name, pixels in chunk if name not in finished]
            for outcome in explain_chunk(explainer, chunk):
                if isinstance(outcome, ImageOutcome):
                    if outcome.name not in finished:
                        yield outcome
                elif outcome.source not in finished:
                    yield _written(explainer, outcome, path, pictures, write)


def _written(
    explainer: Explainer, result: ImageResult, path: Path, pictures: Pictures, write: Callable[[ImageResult], list[Row]]
) -> ImageOutcome:
    """Write a result; the reason where that fails. An ``OSError``, such as a full disk, ends the run instead."""
    try:
        if not len(result) and explainer.is_crowded(result.detections):
            return ImageOutcome(result.source, _explain_crowd(explainer, result, path, pictures))
        return ImageOutcome(result.source, write(result))
    except FAILURES as error:
        return ImageOutcome(result.source, [], reason_of(result.source, error))


def _explain_crowd(explainer: Explainer, result: ImageResult, path: Path, pictures: Pictures) -> list[Row]:
    """Explain an image of many detections piece by piece, each written as it is made; the log says what it costs."""
    count, known = len(result.detections), piece_starts(path, result.source)
    starts = [start for start in range(0, count, PIECE_DETECTIONS) if start not in known]
    left = sum(min(PIECE_DETECTIONS, count - start) for start in starts)
    logger.warning("%s: %s", result.source, _crowd_words(count, left))
    for start in starts:
        began = time.perf_counter()
        piece = explainer.explain_piece(result.source, result.image, start)
        write_piece(path, piece, start, pictures)
        if start == starts[0] and len(starts) > 1:
            share = (left - len(piece)) / len(piece)
            seconds, passes = (time.perf_counter() - began) * share, sum(one.forwards for one in piece) * share
            logger.warning("%s: about %s more forward passes, %s", result.source, f"{passes:,.0f}", _duration(seconds))
    return join_pieces(path, result, pictures)


def _crowd_words(count: int, left: int) -> str:
    done = f", {count - left:,} of them explained before" if left < count else ""
    return (
        f"{count:,} detections{done}; explained {PIECE_DETECTIONS} at a time and kept as they are made. Fewer with "
        "--max-det, --conf or --detection; quicker with --method layercam"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def run_here(
    explainer: Explainer, batches: Iterable[Sequence[Item]], folder: RunFolder, pictures: Pictures, workers: int
) -> Iterator[ImageOutcome]:
    """Explain batches in this process and write the results.

    Args:
        explainer: makes the maps.
        batches: items that share a forward pass.
        folder: the run folder, held by this process.
        pictures: what to draw.
        workers: threads that decode images ahead of the detector.

    Yields:
        What became of each image that was not finished, in order.
    """

    def write(result: ImageResult) -> list[Row]:
        return folder.add(result, pictures)

    for outcome in explain_batches(explainer, batches, workers, folder.path, pictures, write, folder):
        if outcome.reason is None:
            folder.mark_finished(outcome.name)
        yield outcome


class Worker:
    """One detector in one process of many: explains paths and writes their parts of the run folder.

    Args:
        make: makes the explainer; called once, in the process that explains.
        path: the run folder, which that process can reach.
        pictures: what to draw.
    """

    def __init__(self, make: Callable[[], Explainer], path: str, pictures: Pictures) -> None:
        self.explainer, self.path, self.pictures = make(), locate(path), pictures

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Explain several batches.

        Args:
            batch: ``images``: for each batch a JSON list of (name, full path, whether it is finished). It is JSON
                because names need not be valid text.

        Returns:
            ``done``: an :class:`ImageOutcome` as JSON for each image that was not finished.
        """
        images = [json.loads(text) for text in batch["images"]]
        paths = {name: path for some in images for name, path, _ in some}
        done = {name for some in images for name, _, is_done in some if is_done}
        read = partial(read_image, max_pixels=self.explainer.max_pixels)
        items = [[Item(name, partial(read, path)) for name, path, _ in some] for some in images]
        outcomes = []
        write = partial(write_result, self.path, pictures=self.pictures)
        for one in explain_batches(self.explainer, items, 1, self.path, self.pictures, write, done):
            reason = one.reason and one.reason.removeprefix(f"{paths[one.name]}: ")
            outcomes.append(json.dumps(asdict(replace(one, reason=reason))))
        return {"done": outcomes}


@contextmanager
def cluster(address: str | None) -> Iterator[int]:
    """A Ray cluster joined, or, where ``address`` is None, one of this machine's; gives the number of its GPUs.

    One that this process is part of already is used, and stays.

    Raises:
        UsageError: Ray is not installed, or no cluster answers there.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("engine ray needs Ray: pip install 'ray[data]'") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())}") from error
    try:
        yield int(ray.cluster_resources().get("GPU", 0))
    finally:
        if ours:
            ray.shutdown()


def run_on_ray(
    make: Callable[[], Explainer],
    batches: Sequence[Sequence[str]],
    folder: RunFolder,
    pictures: Pictures,
    *,
    workers: int,
    gpus: int,
) -> Iterator[ImageOutcome]:
    """Explain image files on the cluster joined: a detector to each worker, batches handed out and retried by Ray Data.

    Every worker writes its parts of the run folder itself, so all must reach it by the same path.

    Args:
        make: makes the explainer, in each worker.
        batches: paths; those of a batch share a forward pass.
        folder: the run folder, held by this process.
        pictures: what to draw.
        workers: detectors at work at once.
        gpus: of each worker.

    Raises:
        UsageError: the workers cannot be started.
    """
    import ray

    handed = max(min(IMAGES_PER_TASK // max(map(len, batches)), len(batches) // workers), 1)
    work = ray.data.from_items(
        [{"images": json.dumps([_sent(name, name in folder) for name in batch])} for batch in batches],
        override_num_blocks=min(-(-len(batches) // handed), MOST_BLOCKS),
    )
    outcomes = work.map_batches(
        Worker,
        fn_constructor_args=(make, str(folder.path.absolute()), pictures),
        batch_size=handed,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        **({"num_gpus": gpus} if gpus else {"num_cpus": 1}),
    )
    try:
        with _quiet(ray.data.DataContext.get_current()):
            for row in outcomes.iter_rows():
                outcome = ImageOutcome(**json.loads(row["done"]))
                if outcome.reason is None:
                    folder.mark_finished(outcome.name)
                yield outcome
    except ray.exceptions.RayError as error:
        raise UsageError(f"Ray's workers cannot go on: {_last_line(error)}; what was finished is kept") from error


def _sent(name: str, done: bool) -> tuple[str, str, bool]:
    return name, name if is_remote(name) else str(Path(name).absolute()), done


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Silence Ray Data's own progress bars and log; the run has its own."""
    log = logging.getLogger("ray.data")
    before = (context.enable_progress_bars, log.level)
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])


def reason_of(name: str, error: Exception) -> str:
    """Why an image failed, on one line, without the image's name.

    Args:
        name: the image's; cut from the start of the message.
        error: what was raised.
    """
    text = str(error).removeprefix(f"{name}: ").strip() or type(error).__name__
    return " ".join(text.split())


def _last_line(error: Exception) -> str:
    """What went wrong in a worker: the last line of a traceback that names an exception, among Ray's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)), lines[-1])
