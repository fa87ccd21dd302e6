"""FiftyOne: a run as a data set of predictions, truths, their evaluation and their maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from detcam.errors import UsageError
from detcam.export.run import JudgedRun
from detcam.records import optional
from detcam.runs.photographs import image_file
from detcam.runs.schema import image_key

JUDGED = ("verdict", "note", "explanation", "supported", "context_dependence")
PREDICTION = ("error_type", "truth_id", "truth_class", "iou", "cause", "evidence_inside", *JUDGED)
MISS = ("where_it_died", "suppressor", *JUDGED)


def write_fiftyone(run: JudgedRun, out: Path, name: str | None = None) -> str:
    """Make a persistent data set, one sample for each image whose size is known.

    ``predictions`` and ``ground_truth`` are ``Detections``. In the words of ``evaluate_detections``, under the key
    ``eval``: a prediction is ``tp`` or ``fp``, a truth ``tp`` or ``fn``, ``eval_id`` is what it was matched with and
    ``eval_iou`` how well, and each sample counts ``eval_tp``, ``eval_fp``, ``eval_fn``. A crowd and what it took are
    neither. Other attributes are columns of the run; a missed truth has ``error_type`` ``Miss``.

    Each map is a label of its own, ``heatmap_0``, ``heatmap_1`` and so on within an image, because FiftyOne draws only
    fields of a sample; the prediction or truth says in ``heatmap`` which is its map. Maps are 8-bit pictures over
    the original image, in ``out/heatmaps``: inside the database a few maps of a photograph outgrow its documents.

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.
        name: of the data set; None takes the run folder's.

    Returns:
        What was written, in a sentence.

    Raises:
        UsageError: FiftyOne is not installed, cannot open its database, has a data set of this name or takes no such
            name.
    """
    fo = optional("fiftyone")
    name = run.path.resolve().name if name is None else name
    try:
        dataset = fo.Dataset(name, persistent=True)
    except Exception as error:  # the name is taken or no name for it, or whatever its database's driver raises
        raise UsageError(f"FiftyOne cannot make the data set {name!r}: {error}; another name may do") from error
    try:
        (out / "heatmaps").mkdir()
        samples = [_sample(fo, run, image, size, out) for image, size in run.sizes.items() if size is not None]
        dataset.add_samples(samples, dynamic=True, progress=False)
    except BaseException:
        dataset.delete()
        raise
    unsized = len(run.sizes) - len(samples)
    problem = f"; {unsized} images that cannot be read are left out" if unsized else ""
    return f"data set {name!r} with {len(samples)} samples{problem}; its maps are in {out}"


def _sample(fo: Any, run: JudgedRun, image: str, size: tuple[int, int], out: Path) -> Any:
    sample = fo.Sample(filepath=str(image_file(image).absolute()))
    maps = 0

    def label(row: Mapping[str, Any], **attributes: Any) -> Any:
        """A box; its map becomes a field of the sample."""
        nonlocal maps
        if heatmap := run.heatmap(row):
            path = (out / "heatmaps" / f"{image_key(image)}-{maps}.png").absolute()
            Image.fromarray(np.rint(heatmap.array * 255).astype(np.uint8)).save(path)
            attributes["heatmap"] = f"heatmap_{maps}"
            sample[attributes["heatmap"]] = fo.Heatmap(map_path=str(path), detcam_id=row["id"])
            maps += 1
        return fo.Detection(label=row["class_name"], bounding_box=_relative(row, size), **attributes)

    predictions = {
        row["id"]: label(row, confidence=row["confidence"], detcam_id=row["id"], **_known(row, PREDICTION))
        for row in _of(run.detections, image)
    }
    sample["predictions"] = fo.Detections(detections=list(predictions.values()))
    if run.truths is None:
        return sample
    misses = {} if run.misses is None else {row["truth_id"]: row for row in _of(run.misses, image)}
    truths = {}
    for row in _of(run.truths, image):
        known = {"truth_id": row["id"], "found_by": row["found_by"], "iscrowd": row["crowd"]}
        if miss := misses.get(row["id"]):
            known |= {"detcam_id": miss["id"], "error_type": "Miss", **_known(miss, MISS)}
        truths[row["id"]] = label(miss or row, **known)
    sample["ground_truth"] = fo.Detections(detections=list(truths.values()))
    _evaluate(sample, predictions, truths)
    return sample


def _of(table: pl.DataFrame, image: str) -> Iterator[dict[str, Any]]:
    return table.filter(pl.col("image") == image).iter_rows(named=True)


def _known(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: row[key] for key in keys if key in row}


def _evaluate(sample: Any, predictions: Mapping[str, Any], truths: Mapping[Any, Any]) -> None:
    """What FiftyOne's evaluation would write, from the run's own matching."""
    counts = {"tp": 0, "fp": 0, "fn": 0}
    for one in predictions.values():
        one["eval"] = {"TP": "tp", "ignored": None}.get(one["error_type"], "fp")
        one["eval_id"], one["eval_iou"] = "", None
        if one["eval"]:
            counts[one["eval"]] += 1
    for truth in truths.values():
        finder = predictions.get(truth["found_by"])
        truth["eval"] = None if truth["iscrowd"] else "fn" if finder is None else "tp"
        truth["eval_id"], truth["eval_iou"] = "", None
        if finder is not None:
            truth["eval_id"], finder["eval_id"] = finder.id, truth.id
            truth["eval_iou"] = finder["eval_iou"] = finder["iou"]
        elif truth["eval"] == "fn":
            counts["fn"] += 1
    for key, count in counts.items():
        sample[f"eval_{key}"] = count


def _relative(row: Mapping[str, Any], size: tuple[int, int]) -> list[float]:
    """x, y, width, height as shares of the image's width and height."""
    height, width = size
    x1, y1, x2, y2 = (row[key] for key in ("x1", "y1", "x2", "y2"))
    return [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
