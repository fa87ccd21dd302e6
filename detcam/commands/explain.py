"""``detcam explain``: one map for every detection of some images."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from detcam.commands.model import build_explainer, check_place_of, configuration_of
from detcam.commands.progress import complain, logger, progress_bar
from detcam.config import ExplainConfig
from detcam.errors import UsageError
from detcam.explainer import Explainer
from detcam.runs.engine import cluster
from detcam.runs.explained import ExplainedSources, RayWorkers, explain_sources, sources_of
from detcam.runs.held import check_folder
from detcam.runs.results import Pictures
from detcam.texts import split_list

JSON_COLUMNS = ("letterbox", "receipt", "evidence")
"""Columns whose text is JSON."""


def explain(config: ExplainConfig, stdout: TextIO) -> int:
    """Explain every image of the sources into a run folder.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if some inputs failed.

    Raises:
        UsageError: a bad option, or a folder that cannot be used.
        WeightsError: the weights cannot be used.
    """
    if config.engine == "local":
        check_place_of(config)
        _refuse_other_run(config, config)
        return _explain(config, config, build_explainer(config), None, stdout)
    with cluster(config.ray_address) as gpus:
        remote = _on_workers(config, gpus)
        _refuse_other_run(config, remote)
        here = replace(remote, device="cpu", half=False) if remote.device == "cuda:0" else remote
        workers = RayWorkers(partial(build_explainer, remote), int(remote.device == "cuda:0"))
        return _explain(config, remote, build_explainer(here), workers, stdout)


def _explain(
    config: ExplainConfig, remote: ExplainConfig, explainer: Explainer, ray: RayWorkers | None, stdout: TextIO
) -> int:
    """Explain and print; ``remote`` is the configuration in the workers' words."""
    pictures = Pictures(frozenset(split_list(config.save) or []) - {"none"}, config.colormap, config.opacity)
    with progress_bar() as progress:
        task = progress.add_task("explaining", total=None, failed=0)
        result = explain_sources(
            explainer,
            config.source,
            config.out,
            configuration=configuration_of(config, remote.device),
            pictures=pictures,
            every=config.every,
            workers=config.workers,
            overwrite=config.overwrite,
            ray=ray,
            progress=lambda done, total, failed: progress.update(task, completed=done, total=total, failed=failed),
            complain=complain,
            show=partial(_print_rows, stdout=stdout) if config.json else None,
        )
    say_explained(result, config.out, config.json)
    return 1 if result.failed else 0


def say_explained(result: ExplainedSources, out: str, as_json: bool = False) -> None:
    """Log what was explained, and which picture to open.

    Args:
        result: of the sources.
        out: the run folder as it was named.
        as_json: say nothing of pictures.
    """
    logger.info("%s", _summary(result, out))
    overlays = result.path / "overlays"
    if not as_json and result.drawn and overlays.is_dir():
        logger.info(
            "pictures are in %s%s", overlays, "" if result.picture is None else f"; open for example {result.picture}"
        )


def _summary(result: ExplainedSources, out: str) -> str:
    counts = result.counts
    earlier = counts["images"] - result.made
    done_before = f" ({earlier} of them by an earlier run)" if earlier else ""
    images, inputs = _many(counts["images"], "image"), _many(counts["failed"], "input")
    silent = f", {counts['no_signal']} without signal" if counts["no_signal"] else ""
    silent += f", {counts['no_evidence']} without evidence" if counts["no_evidence"] else ""
    silent += f", {counts['unsupported']} unsupported by their receipts" if counts["unsupported"] else ""
    lost = f"; {inputs} failed, see {out}/errors.jsonl" if counts["failed"] else ""
    return f"{_many(counts['detections'], 'detection')} in {images} explained{done_before}{silent} -> {out}{lost}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _refuse_other_run(config: ExplainConfig, remote: ExplainConfig) -> None:
    """Refuse a folder of another run before the detector is loaded."""
    try:
        known = configuration_of(config, remote.device)
    except OSError:  # whoever reads the weights says what is wrong with them
        return
    if known["weights_sha256"] is None:  # a name of Ultralytics', whose file is fetched when it is loaded
        del known["weights_sha256"]
    check_folder(config.out, "explain", known, config.overwrite, sources_of(config.source))


def _on_workers(config: ExplainConfig, gpus: int) -> ExplainConfig:
    """The configuration as a worker of Ray's needs it: full paths, and the one GPU that Ray shows it."""
    device = ("cuda:0" if gpus else None) if config.device is None else config.device
    if device is not None and re.fullmatch(r"(cuda:?)?\d*", str(device).lower()):
        if not gpus:
            raise UsageError(f"--device {device}: the cluster has no GPU")
        device = "cuda:0"
    if config.half and device is None:
        raise UsageError("half precision needs a GPU, and the cluster has none; leave half out")
    weights = str(Path(config.weights).absolute()) if Path(config.weights).exists() else config.weights
    clone = config.yolov5_repo and str(Path(config.yolov5_repo).absolute())
    return replace(config, device=device, weights=weights, yolov5_repo=clone)


def _print_rows(rows: Sequence[dict[str, Any]], stdout: TextIO) -> None:
    for row in rows:
        parsed = {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name] is not None}
        stdout.write(json.dumps({**row, **parsed, "layers": row["layers"].split(",")}) + "\n")
    stdout.flush()
