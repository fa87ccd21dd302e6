"""The same work on every image, in this process or on many machines: read, explain, write; a failure is one image's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detcam.errors import InputError, UsageError
from detcam.explainer import Explainer
from detcam.folder import RunFolder, write_result
from detcam.images import read_image
from detcam.loading import Item, decoded
from detcam.types import ImageResult

Row: TypeAlias = dict[str, Any]
Pixels: TypeAlias = "NDArray[np.uint8] | Exception"


@dataclass(frozen=True)
class Pictures:
    """What is drawn: ``overlay``, ``heatmap``, ``panel``, ``video``; and how."""

    save: frozenset[str]
    colormap: str
    opacity: float


@dataclass(frozen=True)
class Done:
    """An image that is done, with its rows; or that failed, with the reason."""

    name: str
    rows: list[Row]
    reason: str | None = None


def explain_chunk(explainer: Explainer, chunk: Sequence[tuple[str, Pixels]]) -> Iterator[ImageResult | Done]:
    """A result for each image, or why there is none: one that fails takes no other with it.

    Args:
        explainer: whose batch the images share.
        chunk: names, and RGB uint8 (H, W, 3) arrays or the errors of reading them.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, pixels in chunk:
        if isinstance(pixels, Exception):
            yield Done(name, [], reason_of(name, pixels))
        else:
            arrays[name] = pixels
    try:
        yield from explainer.explain_named(arrays)
    except (InputError, RuntimeError, MemoryError):
        for name, array in arrays.items():
            try:
                yield explainer.explain_named({name: array})[0]
            except (InputError, RuntimeError, MemoryError) as error:
                yield Done(name, [], reason_of(name, error))


def run_here(
    explainer: Explainer, items: Iterable[Item], folder: RunFolder, pictures: Pictures, workers: int
) -> Iterator[Done]:
    """Explain items in this process; ``workers`` threads decode ahead of the detector."""
    with closing(decoded(items, workers, ahead=workers + explainer.batch)) as stream:
        while chunk := [(item.name, pixels) for item, pixels in islice(stream, explainer.batch)]:
            for outcome in explain_chunk(explainer, chunk):
                if isinstance(outcome, Done):
                    yield outcome
                else:
                    rows = folder.add(outcome, set(pictures.save), pictures.colormap, pictures.opacity)
                    yield Done(outcome.source, rows)


class Worker:
    """One detector in one process of many: explains batches of paths and writes their parts of the run folder.

    Args:
        make: makes the explainer; called once, in the process that explains.
        path: the run folder, which that process can reach.
        pictures: what to draw.
    """

    def __init__(self, make: Callable[[], Explainer], path: str, pictures: Pictures) -> None:
        self.explainer, self.path, self.pictures = make(), Path(path), pictures

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Names and paths -> names, each one's rows as JSON, and the reason of a failure, empty where there is none."""
        names = [str(name) for name in batch["name"]]
        chunk = [(name, _read(str(path))) for name, path in zip(names, batch["path"], strict=True)]
        told = {name: Done(name, [], "no result") for name in names}
        for outcome in explain_chunk(self.explainer, chunk):
            if isinstance(outcome, Done):
                told[outcome.name] = outcome
            else:
                save, (colormap, opacity) = set(self.pictures.save), (self.pictures.colormap, self.pictures.opacity)
                told[outcome.source] = Done(outcome.source, write_result(self.path, outcome, save, colormap, opacity))
        return {
            "name": names,
            "rows": [json.dumps(told[name].rows) for name in names],
            "reason": [told[name].reason or "" for name in names],
        }


def run_on_ray(
    make: Callable[[], Explainer],
    names: Sequence[str],
    folder: RunFolder,
    pictures: Pictures,
    *,
    workers: int,
    batch: int,
    address: str | None,
    gpus: int,
) -> Iterator[Done]:
    """Explain image files on a Ray cluster: a detector to each worker, batches handed out and retried by Ray Data.

    Every worker writes its parts of the run folder itself, so all must reach it by the same path.

    Args:
        make: makes the explainer, in each worker.
        names: paths.
        folder: the run folder, held by this process.
        pictures: what to draw.
        workers: detectors at work at once.
        batch: images handed out together.
        address: of the cluster; ``None`` starts one on this machine.
        gpus: of each worker.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'detcam[ray]'") from error
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    work = ray.data.from_items(
        [{"name": name, "path": str(Path(name).absolute())} for name in names],
        override_num_blocks=max(len(names) // batch, 1),
    )
    told = work.map_batches(
        Worker,
        fn_constructor_args=(make, str(folder.path.absolute()), pictures),
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
        num_cpus=1,
    )
    for row in told.iter_rows():
        if not row["reason"]:
            folder.did(row["name"])
        yield Done(row["name"], json.loads(row["rows"]), row["reason"] or None)


def _read(name: str) -> Pixels:
    try:
        return read_image(name)
    except (InputError, MemoryError) as error:
        return error


def reason_of(name: str, error: Exception) -> str:
    """Why an image failed, without its name, which is told beside it, on one line."""
    text = str(error).removeprefix(f"{name}: ").strip() or type(error).__name__
    return " ".join(text.split())
