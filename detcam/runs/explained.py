"""Everything that some sources name, explained into a run folder: here or on Ray, images and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from detcam.explainer import Explainer
from detcam.filenames import safe_name
from detcam.io.files import is_local, is_remote, write_whole
from detcam.io.images import read_image
from detcam.io.video import Clip, VideoWriter, is_stream
from detcam.runs.engine import ImageOutcome, run_here, run_on_ray
from detcam.runs.folder import RunFolder
from detcam.runs.held import Sources
from detcam.runs.loading import Item, batches, count_items, find_items
from detcam.runs.results import Pictures, Row
from detcam.runs.schema import image_key

MOST_MISSING_FRAMES = 1000
"""A video has ended when so many frames in a row have no picture."""
DRAWN = Pictures(frozenset({"overlay", "panel"}), "inferno", 0.6)
"""What is drawn where nothing else is asked."""


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True)
class RayWorkers:
    """The Ray cluster joined, which explains files in the place of this process.

    Attributes:
        make: makes the explainer, in each worker.
        gpus: of each worker.
    """

    make: Callable[[], Explainer]
    gpus: int


@dataclass(frozen=True)
class ExplainedSources:
    """What became of the sources.

    Attributes:
        path: the run folder.
        counts: of the whole run: ``images``, ``detections``, ``failed``, and a number for each status without a map.
        made, failed: how many images this process explained, and how many inputs it could not.
        drawn: whether pictures were asked for.
        picture: one of those that were drawn now, or None.
    """

    path: Path
    counts: Mapping[str, int]
    made: int
    failed: int
    drawn: bool
    picture: Path | None


def explain_sources(
    explainer: Explainer,
    sources: Sequence[str],
    out: str | Path,
    *,
    configuration: Mapping[str, Any],
    pictures: Pictures = DRAWN,
    every: int = 1,
    workers: int = 2,
    overwrite: bool = False,
    ray: RayWorkers | None = None,
    progress: Callable[[int, int | None, int], object] = _ignore,
    complain: Callable[[object, str], object] = _ignore,
    show: Callable[[Sequence[Row]], object] | None = None,
) -> ExplainedSources:
    """Explain every image and frame of some sources into a run folder, but for those that are there.

    Nothing is printed.

    Args:
        explainer: makes the maps; on Ray it only says what the run is of.
        sources: see :func:`detcam.runs.loading.find_items`.
        out: the run folder, or its address.
        configuration: what makes two runs the same, as JSON has it: ``weights``, ``weights_sha256``, ``device`` and
            what else the rows depend on.
        pictures: what is drawn.
        every: of a video, frames 0, ``every``, 2 ``every``, ...
        workers: threads that decode images ahead; on Ray, detectors at work.
        overwrite: start anew where a run of another configuration is.
        ray: the cluster; None works in this process.
        progress: called with how many images are done, how many there are or None, and how many inputs failed.
        complain: called for each input that fails, with it and why.
        show: called with the rows of each image, those among them that an earlier run made.

    Raises:
        UsageError: the folder holds something else, is in use, or cannot be written; Ray's workers cannot go on.
        OSError: the folder cannot be written any more; what was finished is kept.
    """
    with RunFolder(out, "explain", configuration, overwrite, sources=sources_of(sources), pictures=pictures) as folder:
        folder.describe(
            weights={"path": configuration.get("weights"), "sha256": configuration.get("weights_sha256")},
            device=str(configuration.get("device") or explainer.model.device),
            imgsz=getattr(explainer.model, "imgsz", None),
            layers=explainer.layers,
            classes=explainer.model.names,
            engine="local" if ray is None else "ray",
        )
        clips: dict[str, Clip] = {}
        complete, made, failed, earlier, picture = False, 0, 0, 0, None
        total: int | None = None

        def count() -> None:
            nonlocal total
            total = count_items(sources, every)
            progress(earlier + made + failed, total, failed)

        def left() -> Iterator[list[Item]]:
            """Batches that are not wholly finished."""
            nonlocal earlier
            for batch in batches(find_items(sources, every, max_pixels=explainer.max_pixels), explainer.batch):
                clips.update((item.clip.name, item.clip) for item in batch if item.clip is not None)
                done = [item.name for item in batch if item.name in folder]
                earlier += len(done)
                progress(earlier + made + failed, total, failed)
                if show is not None:
                    for name in done:
                        show(folder.rows(name))
                if len(done) < len(batch):
                    yield batch

        try:
            Thread(target=count, daemon=True, name="detcam-count").start()  # of millions it takes minutes
            for outcome in _work(explainer, left(), folder, pictures, workers, ray):
                if outcome.reason is not None:
                    failed += 1
                    folder.fail(outcome.name, outcome.reason)
                    complain(outcome.name, outcome.reason)
                else:
                    made += 1
                    picture = picture or _telling_picture(folder.path, outcome.rows, pictures)
                    if show is not None:
                        show(outcome.rows)
                progress(earlier + made + failed, total, failed)
            for clip in clips.values() if "video" in pictures.save else ():
                _write_video(folder.path / "overlays", clip, every)
            complete = True
        finally:
            counts = folder.finish(complete)
        return ExplainedSources(folder.path, counts, made, failed, bool(pictures.save), picture)


def sources_of(names: Sequence[str]) -> Sources:
    """Sources as a run remembers them: with the folder that relative names start from; elsewhere they name others.

    Args:
        names: as the run was given them.
    """
    relative = not all(is_stream(name) or is_remote(name) or Path(name).is_absolute() for name in names)
    return Sources(tuple(names), str(Path.cwd()) if relative else None)


def _work(
    explainer: Explainer,
    left: Iterator[list[Item]],
    folder: RunFolder,
    pictures: Pictures,
    workers: int,
    ray: RayWorkers | None,
) -> Iterator[ImageOutcome]:
    """This process or the cluster, at work on what is left."""
    if ray is None:
        yield from run_here(explainer, left, folder, pictures, workers)
        return
    files: list[list[str]] = []
    for are_files, some in groupby(left, lambda batch: batch[0].is_file):
        if are_files:
            files.extend([item.name for item in batch] for batch in some)
        else:  # sources that name nothing, or frames: only this process has them
            yield from run_here(explainer, some, folder, pictures, 1)
    if files:
        yield from run_on_ray(ray.make, files, folder, pictures, workers=workers, gpus=ray.gpus)


def _telling_picture(run: Path, rows: Sequence[Mapping[str, Any]], pictures: Pictures) -> Path | None:
    """The picture of an image that shows most; None where none was drawn."""
    if not rows:
        return None
    image, detection = rows[0]["id"].rpartition("-")[0], f"{rows[0]['id']}-{safe_name(rows[0]['class_name'])}"
    names = {"panel": f"{image}-panel.png", "overlay": f"{detection}.png", "heatmap": f"{detection}-heatmap.png"}
    return next((run / "overlays" / name for kind, name in names.items() if kind in pictures.save), None)


def _write_video(folder: Path, clip: Clip, every: int) -> None:
    """The pictures of a clip's frames, those of earlier runs among them, as one video."""
    with TemporaryDirectory() as spare:  # for a remote folder: OpenCV writes and reads files of this machine
        path = (folder if is_local(folder) else Path(spare)) / f"{image_key(clip.name)}.mp4"
        with VideoWriter(path, clip.fps) as video:
            number, missing = 0, 0
            while missing < MOST_MISSING_FRAMES:
                picture = folder / f"{image_key(f'{clip.name}#{number:06d}')}-frame.png"
                missing = 0 if picture.is_file() else missing + 1
                if not missing:
                    video.write(read_image(_fetched(picture, Path(spare))))
                number += every
        if not is_local(folder) and path.is_file():
            write_whole(folder / path.name, lambda file: file.write(path.read_bytes()))


def _fetched(picture: Path, spare: Path) -> Path:
    """A picture on this machine."""
    if is_local(picture):
        return picture
    copy = spare / "frame.png"
    copy.write_bytes(picture.read_bytes())
    return copy
