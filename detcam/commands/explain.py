"""``detcam explain``: one map for every detection of some images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, TextIO

from detcam.commands.model import build_explainer
from detcam.commands.progress import complain, logger, progress_bar
from detcam.config import ExplainConfig, split_list
from detcam.drawing.render import colourmap
from detcam.errors import UsageError, nearest
from detcam.explainer import Explainer
from detcam.filenames import safe_name
from detcam.io.files import is_local, is_remote, write_whole
from detcam.io.images import read_image
from detcam.io.video import Clip, VideoWriter, is_stream
from detcam.runs.engine import ImageOutcome, cluster, run_here, run_on_ray
from detcam.runs.folder import RunFolder
from detcam.runs.held import Sources, check_folder
from detcam.runs.loading import Item, batches, count_items, find_items
from detcam.runs.results import Pictures
from detcam.runs.schema import file_sha256, image_key

PICTURES = ("overlay", "heatmap", "panel", "video")
ENGINES = ("local", "ray")
NOT_EXPLAINED = ("source", "out", "overwrite", "json", "engine", "ray_address", "workers")
"""Options that a run's rows do not depend on; a run grows by sources."""
JSON_COLUMNS = ("letterbox", "receipt", "evidence")
"""Columns whose text is JSON."""
MOST_MISSING_FRAMES = 1000
"""A video has ended when so many frames in a row have no picture."""


def explain(config: ExplainConfig, stdout: TextIO) -> int:
    """Explain every image of the sources into a run folder.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if some inputs failed.

    Raises:
        UsageError: no source, a bad option, or a folder that cannot be used.
        WeightsError: the weights cannot be used.
    """
    pictures = _pictures(config)
    _check(config)
    if config.engine == "local":
        _refuse_other_run(config, config)
        return _explain(config, config, build_explainer(config), pictures, stdout)
    with cluster(config.ray_address) as gpus:
        remote = _on_workers(config, gpus)
        _refuse_other_run(config, remote)
        here = replace(remote, device="cpu", half=False) if remote.device == "cuda:0" else remote
        return _explain(config, remote, build_explainer(here), pictures, stdout)


def _explain(
    config: ExplainConfig, remote: ExplainConfig, explainer: Explainer, pictures: Pictures, stdout: TextIO
) -> int:
    """The run in its folder; ``remote`` is the configuration in the workers' words."""
    resolved = _resolved(config, remote)
    with RunFolder(config.out, "explain", resolved, config.overwrite, sources=_sources(config)) as folder:
        folder.describe(
            weights={"path": config.weights, "sha256": resolved["weights_sha256"]},
            device=str(remote.device or explainer.model.device),
            imgsz=getattr(explainer.model, "imgsz", None),
            layers=explainer.layers,
            classes=explainer.model.names,
            engine=config.engine,
        )
        return _explain_into(folder, config, remote, explainer, pictures, stdout)


def _refuse_other_run(config: ExplainConfig, remote: ExplainConfig) -> None:
    """Refuse a folder of another run before the detector is loaded."""
    try:
        known = _resolved(config, remote)
    except OSError:  # whoever reads the weights says what is wrong with them
        return
    if known["weights_sha256"] is None:  # a name of Ultralytics', whose file is fetched when it is loaded
        del known["weights_sha256"]
    check_folder(config.out, "explain", known, config.overwrite, _sources(config))


def _resolved(config: ExplainConfig, remote: ExplainConfig) -> dict[str, Any]:
    """What a run's rows depend on."""
    resolved = {key: value for key, value in asdict(config).items() if key not in NOT_EXPLAINED}
    weights = Path(config.weights)
    resolved["weights_sha256"] = file_sha256(weights) if weights.is_file() else None
    resolved["device"] = remote.device
    return resolved


def _sources(config: ExplainConfig) -> Sources:
    relative = not all(is_stream(name) or is_remote(name) or Path(name).is_absolute() for name in config.source)
    return Sources(tuple(config.source), str(Path.cwd()) if relative else None)  # the same words name others elsewhere


def _explain_into(
    folder: RunFolder,
    config: ExplainConfig,
    remote: ExplainConfig,
    explainer: Explainer,
    pictures: Pictures,
    stdout: TextIO,
) -> int:
    """The images that are not done yet, into a folder that is held."""
    clips: dict[str, Clip] = {}
    complete, made, failed, picture = False, 0, 0, ""
    try:
        with progress_bar() as progress:
            task = progress.add_task("explaining", total=None, failed=0)

            def count() -> None:
                progress.update(task, total=count_items(config.source, config.every))

            def left() -> Iterator[list[Item]]:
                """Batches that are not wholly finished; with --json, rows of images finished earlier are printed."""
                for batch in batches(find_items(config.source, config.every), config.batch):
                    clips.update((item.clip.name, item.clip) for item in batch if item.clip is not None)
                    done = [item.name for item in batch if item.name in folder]
                    progress.advance(task, len(done))
                    for name in done if config.json else ():
                        _print_rows(folder.rows(name), stdout)
                    if len(done) < len(batch):
                        yield batch

            Thread(target=count, daemon=True, name="detcam-count").start()  # of millions it takes minutes
            for done in _work(config.engine, remote, explainer, left(), folder, pictures):
                if done.reason is not None:
                    failed += 1
                    folder.fail(done.name, done.reason)
                    complain(done.name, done.reason)
                else:
                    made += 1
                    picture = picture or _first_picture(done.rows, pictures)
                    if config.json:
                        _print_rows(done.rows, stdout)
                progress.update(task, advance=1, failed=failed)
        for clip in clips.values() if "video" in pictures.save else ():
            _write_video(folder.path / "overlays", clip, config.every)
        complete = True
    finally:
        counts = folder.finish(complete)
    logger.info("%s", _summary(counts, counts["images"] - made, config.out))
    overlays = folder.path / "overlays"
    if not config.json and pictures.save and overlays.is_dir():
        logger.info("pictures are in %s%s", overlays, f"; open for example {overlays / picture}" if picture else "")
    return 1 if failed else 0


def _summary(counts: Mapping[str, int], earlier: int, out: str) -> str:
    done_before = f" ({earlier} of them by an earlier run)" if earlier else ""
    images, inputs = _many(counts["images"], "image"), _many(counts["failed"], "input")
    silent = f", {counts['no_signal']} without signal" if counts["no_signal"] else ""
    silent += f", {counts['no_evidence']} without evidence" if counts["no_evidence"] else ""
    silent += f", {counts['unsupported']} unsupported by their receipts" if counts["unsupported"] else ""
    lost = f"; {inputs} failed, see {out}/errors.jsonl" if counts["failed"] else ""
    return f"{_many(counts['detections'], 'detection')} in {images} explained{done_before}{silent} -> {out}{lost}"


def _first_picture(rows: Sequence[Mapping[str, Any]], pictures: Pictures) -> str:
    """The name of the picture of an image that shows most; empty where none was drawn."""
    if not rows:
        return ""
    image, detection = rows[0]["id"].rpartition("-")[0], f"{rows[0]['id']}-{safe_name(rows[0]['class_name'])}"
    names = {"panel": f"{image}-panel.png", "overlay": f"{detection}.png", "heatmap": f"{detection}-heatmap.png"}
    return next((name for kind, name in names.items() if kind in pictures.save), "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _on_workers(config: ExplainConfig, gpus: int) -> ExplainConfig:
    """The configuration as a worker of Ray's needs it: full paths, and the one GPU that Ray shows it."""
    if lost := [name for name in (config.out, *config.source) if name.startswith("memory://")]:
        raise UsageError(f"{lost[0]} is the memory of one process, which Ray's workers do not share")
    device = ("cuda:0" if gpus else None) if config.device is None else config.device
    if device is not None and re.fullmatch(r"(cuda:?)?\d*", str(device).lower()):
        if not gpus:
            raise UsageError(f"--device {device}: the cluster has no GPU")
        device = "cuda:0"
    weights = str(Path(config.weights).absolute()) if Path(config.weights).exists() else config.weights
    clone = config.yolov5_repo and str(Path(config.yolov5_repo).absolute())
    return replace(config, device=device, weights=weights, yolov5_repo=clone)


def _work(
    engine: str,
    config: ExplainConfig,
    explainer: Explainer,
    left: Iterator[list[Item]],
    folder: RunFolder,
    pictures: Pictures,
) -> Iterator[ImageOutcome]:
    """The engine asked for, at work on what is left."""
    if engine == "local":
        yield from run_here(explainer, left, folder, pictures, config.workers)
        return
    files: list[list[str]] = []
    for are_files, some in groupby(left, lambda batch: batch[0].is_file):
        if are_files:
            files.extend([item.name for item in batch] for batch in some)
        else:  # sources that name nothing, or frames: only this process has them
            yield from run_here(explainer, some, folder, pictures, 1)
    if files:
        yield from run_on_ray(
            partial(build_explainer, config), files, folder, pictures,
            workers=config.workers, gpus=int(config.device == "cuda:0"),
        )  # fmt: skip


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


def _print_rows(rows: Sequence[dict[str, Any]], stdout: TextIO) -> None:
    for row in rows:
        parsed = {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name] is not None}
        stdout.write(json.dumps({**row, **parsed, "layers": row["layers"].split(",")}) + "\n")
    stdout.flush()


def _check(config: ExplainConfig) -> None:
    if not config.source:
        raise UsageError("nothing to explain: name an image, a folder, a glob pattern or a list")
    if not config.out:
        raise UsageError("no run folder: name one with --out DIR")
    if config.engine not in ENGINES:
        raise UsageError(f"no engine {config.engine!r}{nearest(config.engine, ENGINES)}")


def _pictures(config: ExplainConfig) -> Pictures:
    asked = set(split_list(config.save) or []) - {"none"}
    for name in sorted(asked - set(PICTURES)):
        raise UsageError(f"cannot save {name!r}{nearest(name, [*PICTURES, 'none'])}")
    colourmap(config.colormap)
    if not 0 <= config.opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {config.opacity}")
    return Pictures(frozenset(asked), config.colormap, config.opacity)
