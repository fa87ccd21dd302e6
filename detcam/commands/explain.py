"""``detcam explain``: one map for every detection of some images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from detcam.commands.model import build_explainer
from detcam.commands.progress import complain, progress_bar
from detcam.config import ExplainConfig, split_list
from detcam.engine import Done, Pictures, run_here, run_on_ray
from detcam.errors import UsageError, is_count, nearest
from detcam.explainer import Explainer
from detcam.folder import RunFolder
from detcam.images import read_image
from detcam.loading import Item, count_items, find_items
from detcam.render import colourmap
from detcam.store import file_sha256, image_key
from detcam.video import Clip, VideoWriter, is_stream

PICTURES = ("overlay", "heatmap", "panel", "video")
ENGINES = ("local", "ray")
NOT_EXPLAINED = ("out", "overwrite", "json", "engine", "ray_address", "workers")
"""Options that a run's rows do not depend on."""
GAP = 1000
"""Frames in a row without a picture after which a video is taken to have ended."""


def explain(config: ExplainConfig, stdout: TextIO) -> int:
    """Explain every image of the sources into a run folder; 1 if some could not be."""
    pictures = _pictures(config)
    _check(config)
    explainer = build_explainer(config)
    resolved = {key: value for key, value in asdict(config).items() if key not in NOT_EXPLAINED}
    weights = Path(config.weights)
    if any(not is_stream(source) and not Path(source).is_absolute() for source in config.source):
        resolved["working_directory"] = str(Path.cwd())  # the same words name other images elsewhere
    resolved["weights_sha256"] = file_sha256(weights) if weights.is_file() else None
    folder = RunFolder(Path(config.out), "explain", resolved, config.overwrite)
    folder.describe(
        weights={"path": config.weights, "sha256": resolved["weights_sha256"]},
        device=str(explainer.model.device),
        imgsz=getattr(explainer.model, "imgsz", None),
        layers=explainer.layers,
        classes=explainer.model.names,
        engine=config.engine,
    )
    console = Console(stderr=True)
    clips: dict[str, Clip] = {}
    complete, earlier, failed = False, 0, 0
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("explaining", total=count_items(config.source, config.every))

            def left() -> Iterator[Item]:
                """What is not done; what is, is told."""
                nonlocal earlier
                for item in find_items(config.source, config.every):
                    if item.clip is not None:
                        clips[item.clip.name] = item.clip
                    if item.name not in folder:
                        yield item
                        continue
                    earlier += 1
                    progress.advance(task)
                    if config.json:
                        _print_rows(folder.rows(item.name), stdout)

            for done in _work(config, explainer, left(), folder, pictures):
                if done.reason is not None:
                    failed += 1
                    folder.fail(done.name, done.reason)
                    complain(console, done.name, done.reason)
                elif config.json:
                    _print_rows(done.rows, stdout)
                progress.update(task, advance=1, failed=failed)
        for clip in clips.values() if "video" in pictures.save else ():
            _write_video(folder.path / "overlays", clip, config.every)
        complete = True
    finally:
        counts = folder.finish(complete)
    done_before = f" ({earlier} of them by an earlier run)" if earlier else ""
    silent = f", {counts['no_signal']} without signal" if counts["no_signal"] else ""
    silent += f", {counts['unsupported']} unsupported by their receipts" if counts["unsupported"] else ""
    lost = f"; {counts['failed']} inputs failed, see {config.out}/errors.jsonl" if counts["failed"] else ""
    console.print(
        f"{counts['detections']} detections in {counts['images']} images explained{done_before}{silent}"
        f" -> {config.out}{lost}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    return 1 if counts["failed"] else 0


def _work(
    config: ExplainConfig, explainer: Explainer, items: Iterator[Item], folder: RunFolder, pictures: Pictures
) -> Iterator[Done]:
    """The engine asked for, at work on what is left."""
    if config.engine == "local":
        yield from run_here(explainer, items, folder, pictures, config.workers)
        return
    names = []
    for item in items:
        if Path(item.name).is_file() and item.clip is None:
            names.append(item.name)
        else:  # a source that names nothing, or frames: only this process has them
            yield from run_here(explainer, [item], folder, pictures, 1)
    if not names:
        return
    gpus = int(str(config.device or "cpu").startswith("cuda"))
    yield from run_on_ray(
        partial(build_explainer, config), names, folder,
        pictures, workers=config.workers, batch=max(config.batch, 1), address=config.ray_address, gpus=gpus,
    )  # fmt: skip


def _write_video(folder: Path, clip: Clip, every: int) -> None:
    """The pictures of a clip's frames, those of earlier runs among them, as one video."""
    key = image_key(clip.name)
    with VideoWriter(folder / f"{key}.mp4", clip.fps) as video:
        number, missing = 0, 0
        while missing < GAP:
            picture = folder / f"{image_key(f'{clip.name}#{number:06d}')}-frame.png"
            missing = 0 if picture.is_file() else missing + 1
            if not missing:
                video.write(read_image(picture))
            number += every


def _print_rows(rows: Sequence[dict[str, Any]], stdout: TextIO) -> None:
    for row in rows:
        stdout.write(json.dumps({**row, "layers": row["layers"].split(",")}) + "\n")
    stdout.flush()


def _check(config: ExplainConfig) -> None:
    if not config.source:
        raise UsageError("nothing to explain: name an image, a folder, a glob pattern or a list")
    if not config.out:
        raise UsageError("no run folder: name one with --out DIR")
    if config.engine not in ENGINES:
        raise UsageError(f"no engine {config.engine!r}{nearest(config.engine, ENGINES)}")
    for name, count in (("workers", config.workers), ("every", config.every)):
        if not is_count(count):
            raise UsageError(f"{name} must be a whole number, at least 1, got {count!r}")


def _pictures(config: ExplainConfig) -> Pictures:
    asked = set(split_list(config.save) or []) - {"none"}
    for name in sorted(asked - set(PICTURES)):
        raise UsageError(f"cannot save {name!r}{nearest(name, [*PICTURES, 'none'])}")
    colourmap(config.colormap)
    if not 0 <= config.opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {config.opacity}")
    return Pictures(frozenset(asked), config.colormap, config.opacity)
