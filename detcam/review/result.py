"""A finished review, read from its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detcam.review.errors import ERRORS
from detcam.runs.reading import Failure, Row, Run, open_run


@dataclass(frozen=True)
class ReviewResult:
    """A review in its folder. Everything is read from there when it is asked for, by :func:`detcam.open_run`.

    Attributes:
        path: the run folder.
    """

    path: Path

    @cached_property
    def run(self) -> Run:
        """The folder, to be read: tables, maps, what ran."""
        return open_run(self.path)

    @property
    def page(self) -> Path:
        """The report, an HTML page that opens from disk."""
        return self.path / "report" / "index.html"

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """``summary.json``: the figures below, those of each class, confusions, and what of the set was left out."""
        return self.run.summary()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many detections and truths are of each type: TP, Cls, Loc, Both, Dupe, Bkg, Miss."""
        counts: Mapping[str, int] = self.summary["counts"]
        return counts

    @property
    def gains(self) -> Mapping[str, float]:
        """By type of error, the mAP at IoU 0.5 gained if only that type were fixed (TIDE's dAP), in [0, 1] or nan."""
        return {name: _number(value) for name, value in self.summary["dap"].items()}

    @property
    def map50(self) -> float:
        """COCO's mean average precision at IoU 0.5, in [0, 1]; nan where no class has a truth."""
        return _number(self.summary["map50"])

    @property
    def map(self) -> float:
        """COCO's mean average precision over IoU 0.5 to 0.95, in [0, 1]; nan where no class has a truth."""
        return _number(self.summary["map"])

    def rows(self) -> Iterator[Row]:
        """Every detection; its type is ``row.further["error_type"]``. Its map is ``result.run.heatmap(row)``."""
        return self.run.rows()

    def misses(self) -> Iterator[Row]:
        """Every missed truth, with where it was lost: ``row.further["where_it_died"]``."""
        return self.run.misses()

    def errors(self) -> dict[str, list[Row]]:
        """The errors by type: Cls, Loc, Both, Dupe, Bkg, Miss."""
        errors: dict[str, list[Row]] = {name: [] for name in ERRORS}
        for row in self.rows():
            if row.further["error_type"] in errors:
                errors[row.further["error_type"]].append(row)
        errors["Miss"] += self.misses()
        return errors

    def causes(self) -> list[dict[str, Any]]:
        """What errors share, the cause of the most first: ``name``, ``text``, ``confirmed``, ``members``, ..."""
        return self.run.causes()

    def failed(self) -> tuple[Failure, ...]:
        """The inputs that could not be reviewed, and why."""
        return self.run.errors()


def _number(value: float | None) -> float:
    return math.nan if value is None else value
