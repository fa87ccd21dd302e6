"""Methods measured on detections whose cause is known: how much of the cause their maps show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.attribution.receipt import make_quick_receipts, verify
from detcam.demo import CAUSES_WEIGHTS, WEIGHTS
from detcam.demo.causes import KINDS
from detcam.errors import UsageError, nearest
from detcam.evaluate.contestants import default_methods, make_explainers
from detcam.evaluate.planted.cases import (
    LEAST_CONFIDENCE,
    PlantedCause,
    planted_causes,
    planted_kites,
)
from detcam.evaluate.planted.table import REFERENCES, Row, find_best, summarise
from detcam.io.files import on_this_machine
from detcam.metrics.recovery import holds, hottest_inside
from detcam.options import check_counts
from detcam.probing.probe import Probe
from detcam.session import ImageSession
from detcam.targets import class_logit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class PlantedResult:
    """How much of known causes methods show.

    Attributes:
        rows: a row for each map, see :func:`measure_causes`.
        summary: a row for each kind of cause and method, the best first, see
            :func:`detcam.evaluate.planted.table.summarise`.
        best: the best method that is no baseline, over all kinds but ``texture``.
        verdict: one sentence on how far ahead it is.
        folder: where ``planted.parquet`` (the rows) and ``planted.csv`` (the summary) are, or None.
    """

    rows: pl.DataFrame = field(repr=False)
    summary: pl.DataFrame
    best: str
    verdict: str
    folder: Path | None


def evaluate_planted(
    methods: Sequence[str] | None = None,
    out: str | Path | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    limit: int = 20,
    receipts: bool = True,
    seed: int = 0,
) -> PlantedResult:
    """Measure methods on drawn scenes whose causes are known, with the bundled detectors; needs no data.

    Args:
        methods: each ``NAME[@LAYERS][:BUDGET]``, as ``layercam@neck``, ``guided:256``; None or none takes what
            :func:`detcam.evaluate.default_methods` gives.
        out: a folder for ``planted.parquet`` and ``planted.csv``, which are replaced; None writes nothing.
        kinds: of cause, of :data:`detcam.demo.causes.KINDS`.
        limit: how many detections of each kind.
        receipts: also ask whether the receipts of the maps of kind ``near`` are right.
        seed: of the methods and the receipts.

    Raises:
        UsageError: no such kind, method or layer, a method twice, a limit below 1, or a folder that cannot be written.
    """
    folder = None if out is None else on_this_machine(out, "an evaluation keeps its folder")
    names = list(methods or default_methods(load(WEIGHTS)))
    rows = measure_causes(names, limit, seed, receipts, kinds)
    result = PlantedResult(
        pl.DataFrame(rows, infer_schema_length=None), pl.DataFrame(summarise(rows)), *find_best(rows), folder
    )
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            result.rows.write_parquet(folder / "planted.parquet")
            result.summary.write_csv(folder / "planted.csv")
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    return result


def measure_causes(
    methods: Sequence[str], limit: int, seed: int = 0, receipts: bool = False, kinds: Sequence[str] = KINDS
) -> list[Row]:
    """One row for each kind, method and each of the kind's first ``limit`` detections: how much of the cause it shows.

    Args:
        methods: each ``NAME[@LAYERS][:BUDGET]``.
        limit: how many detections of each kind.
        seed: of the methods and the receipts.
        receipts: also whether the receipts of kites' maps are right, the full and the quick ones; see
            :func:`receipt_of`.
        kinds: of cause.

    Returns:
        Rows with ``kind``, ``image``, ``detection``, ``method``, ``status``, ``forwards``, the
        :data:`~detcam.metrics.recovery.FIGURES`, ``evidence``: whether there is any, ``holds``: whether it holds the
        cause, and what :func:`receipt_of` gives where receipts were asked;
        :data:`~detcam.evaluate.planted.table.REFERENCES` are among the methods.

    Raises:
        UsageError: no such kind, method or layer, a method twice, or a limit below 1.
    """
    check_counts(limit=limit)
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"no kind of cause {kind!r}{nearest(kind, KINDS)}")
    rows: list[Row] = []
    if "near" in kinds:
        model = load(WEIGHTS)
        rows += _measure(model, planted_kites(model), methods, limit, seed, receipts)
    model = load(CAUSES_WEIGHTS)
    for kind in (kind for kind in kinds if kind != "near"):
        rows += _measure(model, planted_causes(model, kind), methods, limit, seed, False)
    return rows


def _measure(
    model: DetectorAdapter, cases: Iterator[PlantedCause], methods: Sequence[str], limit: int, seed: int, receipts: bool
) -> list[Row]:
    """The rows of the first ``limit`` detections of one kind."""
    explainers = make_explainers(model, methods, LEAST_CONFIDENCE, seed)
    rows: list[Row] = []
    for case in islice(cases, limit):
        shared = {"kind": case.kind, "image": f"scene {case.seed}", "detection": case.number}
        own: list[tuple[Row, Floats]] = []
        for name, region in zip(REFERENCES, (case.cause, case.elsewhere), strict=True):
            if region is not None:
                row = {"method": name, "status": "ok", "forwards": 0.0, "evidence": False, "holds": False}
                own.append((row, region.astype(np.float32)))
        for name, explainer in explainers.items():
            e = explainer(case.image, detection=case.number)[0][0]
            held = e.evidence is not None and holds(case.kind, e.evidence.patches, case.marks, case.box)
            row = {"method": name, "status": e.status, "forwards": float(e.forwards),
                   "evidence": e.evidence is not None, "holds": held}  # fmt: skip
            own.append((row, e.heatmap.array))
        checked = _receipts(model, case, [heat for _, heat in own], seed) if receipts else [{}] * len(own)
        rows += [
            {**shared, **row, **case.recovery(heat), **more} for (row, heat), more in zip(own, checked, strict=True)
        ]
    return rows


def _receipts(model: DetectorAdapter, case: PlantedCause, heats: Sequence[Floats], seed: int) -> list[Row]:
    """What :func:`receipt_of` gives of each map of a detection; nothing of a map without heat."""
    session = ImageSession(model, case.image, conf=LEAST_CONFIDENCE, seed=seed)
    return [receipt_of(session, heat, case) if heat.any() else {} for heat in heats]


def receipt_of(session: ImageSession, heat: Floats, kite: PlantedCause) -> Row:
    """Whether a map's receipt supports it and whether that is right.

    Right is a receipt that supports a map whose hottest part holds at least half of the mark, and one that rejects a
    map whose hottest part lies beside the mark and the box. In between the truth is not known, for a part of the kite
    itself is a cause as well: None.

    Args:
        session: the kite's image.
        heat: the map, (H, W) over the image, nowhere negative, with some heat.
        kite: its cause.

    Returns:
        ``supported`` and ``right`` of the full receipt, ``quick`` and ``quick_right`` of the one that comes with the
        default explanation.
    """
    probe = Probe(session.prepared, [(session.detections[kite.number], class_logit)], seed=session.seed)
    one = torch.from_numpy(np.array(heat, np.float32))
    (full,), (quick,) = verify(probe, [one]), make_quick_receipts(probe, {0: one})
    hot = max(round(full.hot_share * heat.size), 1)
    held, touched = (hottest_inside(heat, region, hot) for region in (kite.cause, kite.cause | kite.box))
    truth = True if held >= np.count_nonzero(kite.cause) / 2 else False if touched == 0 else None
    right, quick_right = (None if truth is None else one.supported == truth for one in (full, quick))
    return {"supported": full.supported, "right": right, "quick": quick.supported, "quick_right": quick_right}
