"""Which method's maps are faithful to a detector, on one's own images: the evaluation as a function."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.classifier import require_boxes
from detcam.data import LabelledImage, LabelledSet, check_classes, read_data, read_images
from detcam.errors import InputError
from detcam.evaluate.contest import Contest, Row
from detcam.evaluate.contestants import default_methods
from detcam.evaluate.summary import summarise
from detcam.filenames import printable
from detcam.io.files import on_this_machine, write_whole
from detcam.io.images import read_image
from detcam.options import check_counts
from detcam.runs.evaluation import EvaluationFolder, join_parts, write_tables
from detcam.runs.held import check_folder
from detcam.runs.reading import Failure
from detcam.runs.schema import file_sha256, image_key

SANITY_IMAGES = 4
"""Images on which sanity is checked."""
SANITY_DETECTIONS = 4
"""Detections of an image whose maps are compared there."""

Data = str | PathLike[str] | LabelledSet | Sequence[str | PathLike[str]]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What an evaluation measured.

    Attributes:
        rows: a row for each detection and method, in the order of images' names: ``image``, ``detection`` (its number
            in the image), ``method``, ``class_name``, ``confidence``, ``size``, ``sure``, ``status``, ``seconds``,
            ``forwards``, the figures, the curves, and the map around the box. Without any where nothing was measured.
        summary: a row for each method, best first, and a column for each figure's mean over its detections; beside
            figures with a bootstrap 95 % interval stand ``_low`` and ``_high``: ``lead``, ``lead_low``, ``lead_high``.
        sanity: a row for each method with its sanity figures, or None where they were not asked for, or no image has
            detections.
        failures: what of the data could not be used, then the images that could not be measured.
        folder: the run folder, which :func:`detcam.open_run` reads, or None.
    """

    rows: pl.DataFrame = field(repr=False)
    summary: pl.DataFrame
    sanity: pl.DataFrame | None = field(repr=False)
    failures: tuple[Failure, ...]
    folder: Path | None


def evaluate(
    model: Any,
    data: Data,
    methods: Sequence[str] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    conf: float = 0.25,
    limit: int = 100,
    per_image: int = 2,
    unseen: bool = False,
    sanity: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    configuration: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda measured: None,
) -> EvaluationResult:
    """Measure methods on the same detections, against baselines that know nothing of the detector.

    Deletion and insertion in steps of the box's area, under a blur and under the mean colour; how far the map lies in
    the box and in the labelled object; time and forward passes. Images are taken in an order that the seed decides.

    Args:
        model: what :func:`detcam.load` gives or takes.
        data: a COCO ``.json``, a ``data.yaml`` (its split ``val``), a folder or a glob of images; or what
            :func:`detcam.data.read_data` gives for this model, or a :class:`detcam.data.LabelledSet` made by hand; or
            several paths of images. Labels matter to the figures of masks
            alone.
        methods: each ``NAME[@LAYERS][:BUDGET]``, as ``layercam@neck``, ``guided:256``, names that
            :func:`detcam.register_method` made known among them; None or none takes what
            :func:`~detcam.evaluate.contestants.default_methods` gives.
        out: a run folder on this machine, with ``evaluation.parquet``, ``summary.csv``, ``summary.json`` and
            ``sanity.csv``. Images that an evaluation of the same configuration has measured there are not measured
            again. None writes nothing.
        conf: least confidence of a detection, in [0, 1].
        limit: detections to measure, all images together.
        per_image: most detections of one image.
        unseen: also judge under fills that no method uses, in steps of the image's area, and make every map again with
            all weights shuffled: 54 more forward passes for each map, and the method's own price once more.
        sanity: also randomise weights, swap classes and instances, and add noise, on four images.
        seed: of everything random.
        overwrite: start anew where ``out`` holds an evaluation of another configuration.
        configuration: what ``run.json`` says of the run, and what makes two evaluations the same. None takes the
            arguments, with a hash of the weights; of a detector that is no network, such as a
            :class:`detcam.BlackBox`, nothing can be hashed: give each its own folder.
        advance: called with the number of detections measured so far, after each image.

    Raises:
        UsageError: a bad argument; a classifier and labelled boxes; no such method or layer, or a method twice; data
            that cannot be read at all; a folder that cannot be written, is in use, or holds something else.
        WeightsError: the weights cannot be used.
    """
    check_counts(limit=limit, per_image=per_image)
    arguments = {
        "data": fspath(data) if isinstance(data, str | PathLike) else None, "conf": conf, "per_image": per_image,
        "unseen": unseen, "seed": seed, **({"methods": list(methods)} if methods else {}),
    }  # fmt: skip
    if out is not None:
        path = on_this_machine(out, "an evaluation keeps its folder")
        check_folder(path, "evaluate", arguments if configuration is None else configuration, overwrite)
    detector = load(model)
    names = list(methods or default_methods(detector))
    contest = Contest(detector, names, conf, per_image, seed, unseen)
    labelled = _labelled(data, detector)
    if any(image.truths for image in labelled.images):
        require_boxes(detector)
    if configuration is None:
        configuration = {**_weights_of(model, detector), **arguments, "methods": names}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(EvaluationFolder(out, configuration, overwrite)) if out is not None else None
        order = [labelled.images[number] for number in np.random.default_rng(seed).permutation(len(labelled.images))]
        rows, failures = _measure(contest, order, limit, folder, advance)
        summary = pl.DataFrame(summarise(rows)) if len(rows) else pl.DataFrame()
        if folder is not None and len(rows):
            write_tables(folder.path, rows, summary)
        checked = None
        if sanity and len(rows):
            checked = _check_sanity(Contest(detector, names, conf, SANITY_DETECTIONS, seed), order)
            if folder is not None and checked is not None:
                write_whole(folder.path / "sanity.csv", checked.write_csv)
    problems = [Failure(printable(str(path)), reason) for path, reason in labelled.problems]
    return EvaluationResult(rows, summary, checked, (*problems, *failures), None if folder is None else folder.path)


def _measure(
    contest: Contest,
    images: Sequence[LabelledImage],
    limit: int,
    folder: EvaluationFolder | None,
    advance: Callable[[int], None],
) -> tuple[pl.DataFrame, list[Failure]]:
    """Rows of up to ``limit`` detections, with those that the folder has already, and the images that failed."""
    parts: dict[str, pl.DataFrame] = {}
    failures = []
    measured = 0
    for labelled in images:
        if measured >= limit:
            break
        source = str(labelled.path)
        if folder is not None and source in folder:
            measured += folder.count(source)
        else:
            try:
                rows = list(contest.rows(labelled, read_image(labelled.path), limit - measured))
            except (InputError, RuntimeError, MemoryError) as error:
                failures.append(Failure(printable(source), " ".join(str(error).split())))
                continue
            if folder is not None:
                folder.add_rows(source, rows)
            elif rows:
                parts[image_key(source)] = pl.DataFrame(rows, infer_schema_length=None)
            measured += len({row["detection"] for row in rows})
        advance(measured)
    return (join_parts([parts[key] for key in sorted(parts)]) if folder is None else folder.gather()), failures


def _check_sanity(contest: Contest, images: Sequence[LabelledImage]) -> pl.DataFrame | None:
    """Sanity figures of every method, means over the first few images that have detections; None without any."""
    rows: list[Row] = []
    for labelled in images:
        if len({row["image"] for row in rows}) == SANITY_IMAGES:
            break
        with contextlib.suppress(InputError):  # among the failures already
            rows += contest.sanity(labelled.path, read_image(labelled.path))
    if not rows:
        return None
    figures = [name for name in rows[0] if name not in ("image", "method")]
    table = pl.DataFrame(rows).with_columns(pl.col(figures).fill_nan(None))
    return table.group_by("method", maintain_order=True).agg(pl.col(figures).mean())


def _labelled(data: Data, model: DetectorAdapter) -> LabelledSet:
    """The data as a labelled set.

    Raises:
        UsageError: nothing is there that can be read, or a set's classes are not the model's.
    """
    if isinstance(data, LabelledSet):
        check_classes(data, model.names)
        return data
    if isinstance(data, str | PathLike):
        return read_data(fspath(data), names=model.names)
    return read_images([Path(path) for path in data], model.names)


def _weights_of(given: Any, model: DetectorAdapter) -> dict[str, Any]:
    """What the weights are called, and a hash of them: of the file, or of what a network has learnt."""
    name = fspath(given) if isinstance(given, str | PathLike) else type(given).__name__
    if isinstance(given, str | PathLike) and Path(given).is_file():
        return {"weights": name, "sha256": file_sha256(Path(given))}
    network = getattr(model, "model", None)
    if not isinstance(network, nn.Module):
        return {"weights": name, "sha256": None}
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"weights": name, "sha256": digest.hexdigest()}
