"""The values detcam hands out: frozen, checked when built, and free of any vendor's types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from detcam.filenames import safe_name
from detcam.geometry import Letterbox
from detcam.pictures import Pictured, drawing
from detcam.records import (
    detection_record,
    explanation_record,
    pandas_frame,
    polars_frame,
    result_record,
    supervision_detections,
)

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

Status = Literal["ok", "no_signal", "no_evidence", "unsupported"]


@dataclass(frozen=True, eq=False, repr=False)
class Detection:
    """One box of one image, and the anchor that made it.

    Attributes:
        xyxy: float32 (4,), original-image pixels, cut to the image, read-only. As the detector gives it: a head
            without a distribution over distances (YOLO26) can answer x2 < x1.
        class_id, class_name: what it was detected as (or, for a box asked about, the class asked about).
        confidence: the class probability at its anchor, in [0, 1].
        anchor: index of the prediction among all raw, pre-NMS predictions of the image.
        stride: of the level the anchor lies on, network pixels; 0 where predictions lie on no grid.
        asked: the box the caller asked about, if the detector did not report it; float32 (4,) or None.
        polygons: the corners of a rotated box or the outlines of a mask, each float32 (n, 2), original pixels; else
            None.
        keypoints: float32 (n, 2), or (n, 3) with the probability that each is visible, original pixels; else None.
    """

    xyxy: NDArray[np.float32]
    class_id: int
    class_name: str
    confidence: float
    anchor: int
    stride: int
    asked: NDArray[np.float32] | None = None
    polygons: tuple[NDArray[np.float32], ...] | None = None
    keypoints: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("xyxy", "asked"):
            value = getattr(self, name)
            if value is None and name == "asked":
                continue
            box = np.array(value, np.float32)
            if box.shape != (4,) or not np.isfinite(box).all():
                raise ValueError(f"{name} must be four finite numbers x1, y1, x2, y2, got {value!r}")
            box.flags.writeable = False
            object.__setattr__(self, name, box)
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence must lie in [0, 1], got {self.confidence!r}")
        if self.anchor < 0:
            raise ValueError(f"anchor must be an index from 0, got {self.anchor!r}")

    @property
    def caption(self) -> str:
        """Class and confidence, as drawn beside the box."""
        return f"{self.class_name} {self.confidence:.2f}"

    def __repr__(self) -> str:
        return (
            f"Detection({self.caption!r}, xyxy={[round(side, 1) for side in self.xyxy.tolist()]}, anchor={self.anchor})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; boxes, outlines and keypoints are lists, original pixels."""
        return detection_record(self)


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """A saliency map, at its own resolution and in the original image's pixels.

    Attributes:
        raw: float32 (h, w) over the detector's letterboxed input, unscaled, signed where the method is; read-only.
        letterbox: places ``raw`` in the original image.
    """

    raw: NDArray[np.float32]
    letterbox: Letterbox

    def __post_init__(self) -> None:
        raw = np.array(self.raw, np.float32)
        if raw.ndim != 2 or raw.size == 0:
            raise ValueError(f"a raw map must be (h, w), got shape {raw.shape}")
        if not np.isfinite(raw).all():
            raise ValueError(f"a raw map must be finite, got {int((~np.isfinite(raw)).sum())} values that are not")
        raw.flags.writeable = False
        object.__setattr__(self, "raw", raw)

    def __repr__(self) -> str:
        (rows, columns), (height, width) = self.raw.shape, self.letterbox.original
        return f"Heatmap({rows} x {columns} over an image of {height} x {width} pixels, peak {self.peak:.3g})"

    @property
    def array(self) -> NDArray[np.float32]:
        """float32 (H, W) in [0, 1], original-image pixels: the positive part over its own maximum.

        All zeros where there is nothing positive. Each access computes a new array, which is yours to change: about
        2 ms for 640 x 480 pixels, 30 ms for 1920 x 1080, 340 ms for 4000 x 3000 (one core). It is not kept, because
        hundreds of full-size maps would fill the memory: write ``heat = e.heatmap.array`` once and use ``heat``.
        """
        positive = self.letterbox.map_to_original(self.raw)
        np.maximum(positive, 0, out=positive)
        peak = positive.max()
        # The division may meet subnormal peaks, whose inverse is not finite: scale by the quotient, never the inverse.
        return np.divide(positive, peak, out=positive) if peak > 0 else positive

    @property
    def peak(self) -> float:
        """The largest raw value: compares one detection's map with another's before scaling."""
        return float(self.raw.max())

    @property
    def padding_share(self) -> float:
        """Share of the raw map's absolute mass in the letterbox's grey padding, which ``array`` leaves out."""
        return self.letterbox.padding_share(self.raw)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The smallest part of an image without which a box is lost or becomes something else: one patch, or two.

    Where it is no patch but all that surrounds the box, four rectangles around it (:attr:`is_all_around`).

    Attributes:
        patches: int64 (1 to 4, 4), xyxy in original-image pixels, read-only.
        becomes: the class that the box gets without it, or None where the box is lost.
        confidence: of what it becomes; of what is left of its own class where it is lost; in [0, 1], a mean over fills.
        before: the score of the box as it is, in [0, 1].
        after: the score of its own class without the patches, in [0, 1], a mean over fills.
        control: the same without the worst of as many patches of that size elsewhere; None for all around the box, as
            nothing elsewhere is as large.
        outside: the share of the patches that lies outside the box, in [0, 1].
    """

    patches: NDArray[np.int64]
    becomes: str | None
    confidence: float
    before: float
    after: float
    control: float | None
    outside: float

    def __post_init__(self) -> None:
        patches = np.array(self.patches, np.int64).reshape(-1, 4)
        if not 1 <= len(patches) <= 4:
            raise ValueError(f"evidence is one patch or two, or four around the box, got {len(patches)}")
        patches.flags.writeable = False
        object.__setattr__(self, "patches", patches)

    @property
    def is_all_around(self) -> bool:
        """Whether it is no patch, but all that surrounds the box."""
        return self.control is None

    @property
    def xyxy(self) -> NDArray[np.int64]:
        """The first patch, int64 (4,), xyxy in original-image pixels."""
        first: NDArray[np.int64] = self.patches[0]
        return first


@dataclass(frozen=True)
class Receipt:
    """The causal check of a map: scores, each by fill (``blur``, ``mean``), when parts of the image are replaced.

    The quick check, which the default explanation makes, leaves ``kept``, ``kept_random`` and ``box_random`` empty.

    Attributes:
        score: the detection's score in the image as it is: the largest IoU x class probability of any raw prediction.
        hot_share: how much of the image the hottest part covers, in [0, 1].
        removed, removed_random: without the hottest part; without random parts of equal area and shape, on average.
        kept, kept_random: with nothing but it; with nothing but such random parts.
        box_only, box_random: with nothing but the box; with nothing but as large a box elsewhere.
        context_dependence: the relative drop when all outside the box goes, from -1 (a rise, or more) to 1; 0 where the
            score is below 0.01.
        supported: by the rule of :func:`detcam.attribution.receipt.verify`.
        forwards: images it took; of those that it shares with other detections, its share.
    """

    score: float
    hot_share: float
    removed: Mapping[str, float]
    removed_random: Mapping[str, float]
    kept: Mapping[str, float]
    kept_random: Mapping[str, float]
    box_only: Mapping[str, float]
    box_random: Mapping[str, float]
    context_dependence: float
    supported: bool
    forwards: float

    @property
    def brief(self) -> str:
        """What taking the hottest part away does; scores are means over the fills."""
        share = f"{self.hot_share:.0%}" if self.hot_share >= 0.01 else f"{self.hot_share:.1%}"
        return (
            f"confidence {self.score:.2f} -> {_mean(self.removed):.2f} without the hottest {share} "
            f"(random {share}: {_mean(self.removed_random):.2f})"
        )

    @property
    def text(self) -> str:
        """The receipt in one line."""
        alone = f"; {_mean(self.kept):.2f} with it alone (random: {_mean(self.kept_random):.2f})" if self.kept else ""
        verdict = "supported" if self.supported else "unsupported"
        return f"{self.brief}{alone}; context dependence {self.context_dependence:.0%}; {verdict}"


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / len(scores)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Pictured):
    """Why one box is there: the detection, its map, and how the map was made.

    Attributes:
        detection, heatmap: the box and its map.
        method, target: names as asked for.
        layers: module paths whose maps were summed; only those the target's gradient reached.
        status: ``ok``; ``no_signal``: the map is all zero, ``reason`` says why; ``no_evidence``: nothing was found that
            carries the score more than any other part does; ``unsupported``: the receipt failed.
        reason: empty for ``ok``, unless another method had to take over: then it says so.
        image: the RGB uint8 (H, W, 3) image the map belongs to, read-only.
        support: for each of ``layers`` the share of its cells that the target has any gradient at, in [0, 1];
            empty for a method that takes no gradient.
        forwards: images passed through the detector for this map besides the pass that found the detections; a backward
            pass counts as two, a part of an image by its area, and what detections share is divided among them.
        receipt: the causal check of the map, or None.
        evidence: the smallest part without which the box is lost or becomes something else; None where none was found
            or looked for.
        sentence: what the box rests on, in one plain sentence.
    """

    detection: Detection
    heatmap: Heatmap
    method: str
    target: str
    layers: tuple[str, ...]
    status: Status
    reason: str
    image: NDArray[np.uint8]
    support: tuple[float, ...] = ()
    forwards: float = 0
    receipt: Receipt | None = None
    evidence: Evidence | None = None
    sentence: str = ""

    def __repr__(self) -> str:
        what = f"{self.detection.caption!r}, {self.method} of {self.target}: {self.status}"
        return f"Explanation({what}, {self.sentence!r})" if self.sentence else f"Explanation({what})"

    def _repr_html_(self) -> str:
        return drawing().explanation_html(self)

    @property
    def file_name(self) -> str:
        """A name for a file of this explanation, without a suffix: its class, made safe, and its anchor."""
        return f"{safe_name(self.detection.class_name)}-{self.detection.anchor}"

    def plot(self, colormap: str = "inferno", opacity: float = 0.6) -> NDArray[np.uint8]:
        """The map over the image with the box, what it rests on, and labels.

        Args:
            colormap: a name that matplotlib knows.
            opacity: of the hottest parts, in [0, 1].

        Returns:
            A new RGB uint8 (H, W, 3).
        """
        return drawing().overlay(self, colormap=colormap, opacity=opacity)

    def drawn(self, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """:meth:`plot` above a caption in words, which is what :meth:`save` and :meth:`to_pil` give."""
        return drawing().captioned(self, colormap, opacity)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, but for the image and the map, which are arrays."""
        return explanation_record(self)


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult(Pictured, Sequence[Explanation]):
    """The explanations of one image's detections, in descending confidence.

    Attributes:
        source: the path, or a name for an image given as an array.
        image: RGB uint8 (H, W, 3), read-only.
        detections: every detection of the image, explained or not.
        explanations: one for each detection asked about.
    """

    source: str
    image: NDArray[np.uint8]
    detections: tuple[Detection, ...]
    explanations: tuple[Explanation, ...]

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Explanation, ...]: ...
    def __getitem__(self, index: int | slice) -> Explanation | tuple[Explanation, ...]:
        return self.explanations[index]

    def __len__(self) -> int:
        return len(self.explanations)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.explanations)

    def plot(self, colormap: str = "inferno", opacity: float = 0.6) -> NDArray[np.uint8]:
        """One page: the image with its boxes numbered, and each of the first close up in words.

        Args:
            colormap: a name that matplotlib knows.
            opacity: of the hottest parts, in [0, 1].

        Returns:
            A new RGB uint8 (H, W, 3), as large as the page.
        """
        return drawing().panel(self, colormap=colormap, opacity=opacity)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        explained = f"{len(self)} of {len(self.detections)} detections explained"
        return f"ImageResult({self.source!r}, {width} x {height} pixels, {explained})"

    def _repr_html_(self) -> str:
        return drawing().result_html(self)

    def drawn(self, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """:meth:`plot`, which is what :meth:`save` and :meth:`to_pil` give."""
        return self.plot(colormap, opacity)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, but for the image and the maps, which are arrays."""
        return result_record(self)

    def to_polars(self) -> pl.DataFrame:
        """A row for each explanation, with the columns of a run's table that need no run folder; objects are JSON."""
        frame: pl.DataFrame = polars_frame(self)
        return frame

    def to_pandas(self) -> Any:
        """The same as a ``pandas.DataFrame``.

        Raises:
            UsageError: pandas is not installed.
        """
        return pandas_frame(self)

    def to_supervision(self) -> Any:
        """The explained detections as ``supervision.Detections``.

        ``data`` has ``class_name``, ``status`` and ``sentence``, text arrays (n,), and ``heatmaps``, a list of n maps
        as :attr:`Heatmap.array`, which need 4 n H W bytes.

        Raises:
            UsageError: supervision is not installed.
        """
        return supervision_detections(self)
