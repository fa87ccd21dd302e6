"""Explanations as other programs take them: JSON, rows of a table, polars, pandas, supervision.

Nothing here is imported before it is used: ``import detcam`` stays quick, and pandas and supervision need not be there.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from detcam.errors import UsageError
from detcam.filenames import printable

FRAME: dict[str, type] = {
    "image": str,
    "class_id": int,
    "class_name": str,
    "confidence": float,
    "x1": float,
    "y1": float,
    "x2": float,
    "y2": float,
    "anchor": int,
    "stride": int,
    "method": str,
    "layers": str,
    "support": str,
    "target": str,
    "status": str,
    "reason": str,
    "letterbox": str,
    "padding_share": float,
    "receipt": str,
    "supported": bool,
    "context_dependence": float,
    "evidence": str,
    "sentence": str,
    "forwards": float,
}
"""The columns of a frame and their types: those of a run's ``detections.parquet`` that need no run folder."""


def detection_record(detection: Any) -> dict[str, Any]:
    """A detection as JSON has it: ``xyxy``, outlines and keypoints as lists, original pixels.

    Args:
        detection: a :class:`detcam.Detection`.
    """
    return {
        "class_id": int(detection.class_id),
        "class_name": detection.class_name,
        "confidence": float(detection.confidence),
        "xyxy": detection.xyxy.tolist(),
        "anchor": int(detection.anchor),
        "stride": int(detection.stride),
        "asked": _listed(detection.asked),
        "polygons": None if detection.polygons is None else [outline.tolist() for outline in detection.polygons],
        "keypoints": _listed(detection.keypoints),
    }


def evidence_record(evidence: Any) -> dict[str, Any]:
    """Evidence as JSON has it: ``patches`` (list of xyxy, original pixels) and the scores with and without them.

    Args:
        evidence: a :class:`detcam.Evidence`.
    """
    names = ("becomes", "confidence", "before", "after", "control", "outside")
    return {"patches": evidence.patches.tolist(), **{name: getattr(evidence, name) for name in names}}


def explanation_record(explanation: Any) -> dict[str, Any]:
    """An explanation as JSON has it; without its map, which is an array.

    Args:
        explanation: a :class:`detcam.Explanation`.
    """
    receipt, evidence = explanation.receipt, explanation.evidence
    return {
        "detection": detection_record(explanation.detection),
        "method": explanation.method,
        "target": explanation.target,
        "layers": list(explanation.layers),
        "support": [float(share) for share in explanation.support],
        "status": explanation.status,
        "reason": explanation.reason,
        "sentence": explanation.sentence,
        "letterbox": asdict(explanation.heatmap.letterbox),
        "padding_share": _padding_share(explanation),
        "receipt": None if receipt is None else asdict(receipt),
        "evidence": None if evidence is None else evidence_record(evidence),
        "forwards": float(explanation.forwards),
    }


def result_record(result: Any) -> dict[str, Any]:
    """An image's explanations as JSON has them.

    Args:
        result: a :class:`detcam.ImageResult`.
    """
    height, width = result.image.shape[:2]
    return {
        "source": printable(result.source),
        "width": width,
        "height": height,
        "detections": [detection_record(one) for one in result.detections],
        "explanations": [explanation_record(one) for one in result],
    }


def explanation_columns(explanation: Any) -> dict[str, Any]:
    """The columns of a table's row that tell how a detection was explained; objects are JSON text.

    Args:
        explanation: a :class:`detcam.Explanation`.
    """
    receipt, evidence = explanation.receipt, explanation.evidence
    return {
        "method": explanation.method,
        "layers": ",".join(explanation.layers),
        "support": ",".join(f"{share:.4f}" for share in explanation.support),
        "target": explanation.target,
        "status": explanation.status,
        "reason": explanation.reason,
        "letterbox": json.dumps(asdict(explanation.heatmap.letterbox)),
        "padding_share": _padding_share(explanation),
        "receipt": None if receipt is None else json.dumps(asdict(receipt)),
        "supported": None if receipt is None else receipt.supported,
        "context_dependence": None if receipt is None else receipt.context_dependence,
        "evidence": None if evidence is None else json.dumps(evidence_record(evidence)),
        "sentence": explanation.sentence,
        "forwards": explanation.forwards,
    }


def detection_columns(source: str, detection: Any) -> dict[str, Any]:
    """The columns of a table's row that tell what was detected.

    Args:
        source: the image's name.
        detection: a :class:`detcam.Detection`.
    """
    x1, y1, x2, y2 = detection.xyxy.tolist()
    return {
        "image": printable(source),
        "class_id": detection.class_id,
        "class_name": detection.class_name,
        "confidence": detection.confidence,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "anchor": detection.anchor,
        "stride": detection.stride,
    }


def polars_frame(result: Any) -> Any:
    """A ``polars.DataFrame`` with a row for each explanation and the columns of :data:`FRAME`.

    Args:
        result: a :class:`detcam.ImageResult`.
    """
    import polars as pl

    return pl.DataFrame(_rows(result), schema=FRAME, orient="row")


def pandas_frame(result: Any) -> Any:
    """The same as a ``pandas.DataFrame``.

    Args:
        result: a :class:`detcam.ImageResult`.

    Raises:
        UsageError: pandas is not installed.
    """
    pandas = optional("pandas", "pip install pandas, or take to_polars(), which needs nothing else")
    return pandas.DataFrame(_rows(result), columns=list(FRAME))


def supervision_detections(result: Any) -> Any:
    """``supervision.Detections`` of the explained detections, as :func:`detcam.export.to_supervision` gives a run's.

    Args:
        result: a :class:`detcam.ImageResult`.

    Raises:
        UsageError: supervision is not installed.
    """
    sv = optional("supervision")
    found = [one.detection for one in result]
    texts = {
        "class_name": [one.class_name for one in found],
        "status": [one.status for one in result],
        "sentence": [one.sentence for one in result],
    }
    return sv.Detections(
        xyxy=np.array([one.xyxy for one in found], np.float32).reshape(-1, 4),
        confidence=np.array([one.confidence for one in found], np.float32),
        class_id=np.array([one.class_id for one in found], np.int64),
        data={**{name: np.array(text, np.str_) for name, text in texts.items()},
              "heatmaps": [one.heatmap.array for one in result]},
        metadata={"image": result.source},
    )  # fmt: skip


def optional(package: str, advice: str | None = None) -> Any:
    """A package that only one format needs.

    Args:
        package: its name, and that of the extra that brings it.
        advice: what to do where no extra brings it.

    Raises:
        UsageError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        advice = advice or f"pip install {package}"
        raise UsageError(f"this needs {package}: {advice} ({error})") from error


def _rows(result: Any) -> list[dict[str, Any]]:
    rows = [{**detection_columns(result.source, one.detection), **explanation_columns(one)} for one in result]
    return [{name: row[name] for name in FRAME} for row in rows]


def _padding_share(explanation: Any) -> float | None:
    return None if explanation.status == "no_signal" else explanation.heatmap.padding_share


def _listed(values: Any) -> Sequence[Any] | None:
    return None if values is None else list(np.asarray(values).tolist())
