"""What kind of error each detection is: TIDE's types (Bolya et al. 2020, arXiv:2008.08115), and what each type costs.

Types are told apart in the order of TIDE's package, tidecv 1.0.1, thresholds compared as it compares them. The IoU is
that of boxes, or of what the detector is for (:mod:`detcam.review.overlaps`):

========  ===========================================================================================================
TP        claims a truth: by falling confidence, each detection takes the unclaimed truth of its class it overlaps most,
          if with IoU >= 0.5
Loc       else its best IoU with a truth of its class lies in [0.1, 0.5]
Cls       else its best IoU with a truth of another class is >= 0.5
Dupe      else it overlaps a claimed truth of its class with IoU >= 0.5
Bkg       else its best IoU with any truth is <= 0.1, or the image has no truth
Both      else: not well placed, and of another class
Miss      a truth that is neither claimed nor what a Loc or Cls error is confused with
========  ===========================================================================================================

The package departs from the paper and from COCOeval in ways that decide single boxes. Followed, so that counts agree:
of equal overlaps the first truth is taken (COCOeval: the last); a crowd takes a detection with more than half of it
inside (COCOeval: half or more); a detection that a crowd took still explains a truth it is confused with; mAP also
averages over classes without truths, at 0. Not followed: what a crowd took has its own type, ``ignored``, and counts as
no error; detections past the hundredth of an image are typed too; mending keeps the order of detections of equal
confidence, where the package puts errors before true positives and cuts what this makes negative to 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from detcam.data import LabelledImage, Truth
from detcam.review.matching import AveragePrecision, average_precision
from detcam.review.overlaps import MatchedBy, Overlaps, choose, measure, measure_set, seen_shape
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
TYPES = ("TP", *ERRORS)


@dataclass(frozen=True)
class DetectionOutcome:
    """What became of one detection.

    Attributes:
        error: ``TP``, an error's type, or ``ignored`` where a crowd or another truth that is left out took it.
        truth: index among the image's truths: what it claimed or is confused with, or the crowd; None for ``Bkg``.
        truth_class: the class of that truth.
        iou: with that truth, of what is compared (:data:`detcam.review.overlaps.MatchedBy`); for ``Bkg`` the largest
            with any; for ``ignored`` the share of the detection in the crowd.
    """

    error: str
    truth: int | None
    truth_class: int | None
    iou: float


@dataclass(frozen=True)
class TruthOutcome:
    """What became of one truth. A crowd is neither found nor missed, nor is one without the shape that is compared.

    Attributes:
        found_by: index among the image's detections of the true positive.
        explained_by: of the most confident Loc or Cls error confused with it, if nothing found it. It may be a
            detection that is ``ignored``.
        missed: neither of the two.
        left_out: whether it is neither found nor missed.
    """

    found_by: int | None
    explained_by: int | None
    missed: bool
    left_out: bool = False


@dataclass(frozen=True)
class ImageErrors:
    """One image's outcomes.

    Attributes:
        detections: in the order the detections were given.
        truths: in the order the truths were given.
        matched_by: what was compared.
    """

    detections: tuple[DetectionOutcome, ...]
    truths: tuple[TruthOutcome, ...]
    matched_by: MatchedBy = "box"


@dataclass(frozen=True)
class ClassErrors:
    """One class's errors. A detection counts for the class it was detected as, a miss for that of its truth.

    Attributes:
        class_id: the model's.
        class_name: its name.
        truths: how many there are, crowds aside.
        counts: of outcomes, by type.
        ap50: average precision at IoU 0.5, in [0, 1]; nan without a truth.
    """

    class_id: int
    class_name: str
    truths: int
    counts: Mapping[str, int]
    ap50: float


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another.

    Attributes:
        predicted: name of the predicted class.
        truth: name of the true class.
        count: of Cls errors.
    """

    predicted: str
    truth: str
    count: int


@dataclass(frozen=True)
class Errors:
    """A detector's errors on a labelled set.

    Attributes:
        images: in the order given.
        counts: by type, ``TYPES``.
        tide_map50: mAP at IoU 0.5 as TIDE takes it, in [0, 1]; what ``dap`` adds to.
        dap: by type, ``ERRORS``: how much mAP would gain if only that type were mended, in [0, 1]; nan where nothing
            would be left to average over.
        per_class: every class with a truth or a detection, by class id.
        confusions: the most frequent first.
        precision: COCO's average precision of the same detections.
    """

    images: tuple[ImageErrors, ...]
    counts: Mapping[str, int]
    tide_map50: float
    dap: Mapping[str, float]
    per_class: tuple[ClassErrors, ...]
    confusions: tuple[Confusion, ...]
    precision: AveragePrecision


def find_errors(
    images: Sequence[LabelledImage],
    detections: Sequence[Sequence[Detection]],
    overlaps: Sequence[Overlaps] | None = None,
) -> Errors:
    """Type every detection and every truth of a labelled set, and weigh the types.

    Args:
        images: with their truths, whose classes are those of the detections.
        detections: one sequence for each image, in any order; the caller has chosen the score threshold.
        overlaps: of each image; None measures them by the detections' own shape, where truths have it.

    Raises:
        ValueError: not one sequence of detections for each image.
        UsageError: the detections have another number of keypoints than the truths.
    """
    if len(images) != len(detections):
        raise ValueError(f"each image needs its detections: got {len(images)} images and {len(detections)} sequences")
    overlaps = measure_set(images, detections) if overlaps is None else overlaps
    precision = average_precision(images, detections, overlaps)
    outcomes = tuple(
        image_errors(image.truths, several, own)
        for image, several, own in zip(images, detections, overlaps, strict=True)
    )
    names: dict[int, str] = {}
    rows = {class_id: Counter[str]() for class_id in precision.ap50}
    confused = Counter[tuple[int, int]]()
    for image, several, typed in zip(images, detections, outcomes, strict=True):
        for truth, fate in zip(image.truths, typed.truths, strict=True):
            names[truth.class_id] = truth.class_name
            if not fate.left_out:
                rows[truth.class_id].update({"truths": 1, "Miss": int(fate.missed)})
        for detection, outcome in zip(several, typed.detections, strict=True):
            names[detection.class_id] = detection.class_name
            rows[detection.class_id][outcome.error] += 1
            if outcome.error == "Cls" and outcome.truth_class is not None:
                confused[detection.class_id, outcome.truth_class] += 1
    tide_map50, dap = _gains(images, detections, outcomes)
    return Errors(
        images=outcomes,
        counts={name: sum(row[name] for row in rows.values()) for name in TYPES},
        tide_map50=tide_map50,
        dap=dap,
        per_class=tuple(
            ClassErrors(c, names[c], row["truths"], {name: row[name] for name in TYPES}, precision.ap50[c])
            for c, row in rows.items()
        ),
        confusions=tuple(
            Confusion(names[taken], names[true], count)
            for (taken, true), count in sorted(confused.items(), key=lambda pair: (-pair[1], pair[0]))
        ),
        precision=precision,
    )


def image_errors(
    truths: Sequence[Truth], detections: Sequence[Detection], overlaps: Overlaps | None = None
) -> ImageErrors:
    """Type the detections and truths of one image.

    Args:
        truths: in any order.
        detections: in any order.
        overlaps: of the ones with the others; None measures them by the detections' own shape, where truths have it.
    """
    if overlaps is None:
        overlaps = measure(truths, detections, choose(seen_shape(detections, truths), truths))
    class_ids, true_classes = (np.array([mark.class_id for mark in marks], np.int64) for marks in (detections, truths))
    crowd = overlaps.left_out
    same = class_ids[:, None] == true_classes
    # The last column stands for a truth that nothing overlaps, so that there always is a best one.
    overlap = np.pad(np.where(crowd, 0, overlaps.iou), ((0, 0), (0, 1)))
    within = np.pad(same, ((0, 0), (0, 1))) * overlap
    apart = overlap - within
    order = np.argsort([-one.confidence for one in detections], kind="stable")
    claims, found_by = _claim(within, order)
    near, nearest, place = within.max(1), within.argmax(1), overlap.argmax(1)
    errors, partners = _first_true(
        ("TP", claims >= 0, claims),
        ("Loc", (near >= BACKGROUND_IOU) & (near <= FOREGROUND_IOU), nearest),
        ("Cls", apart.max(1) >= FOREGROUND_IOU, apart.argmax(1)),
        ("Dupe", near > FOREGROUND_IOU, nearest),  # claimed by another, or this one would have claimed it
        ("Bkg", overlap.max(1) <= BACKGROUND_IOU, place),
        ("Both", np.ones(len(class_ids), bool), place),
    )
    ious = overlap[np.arange(len(class_ids)), partners]
    explained_by: dict[int, int] = {}
    for index in order[np.isin(errors, ("Loc", "Cls"))[order]].tolist():
        if found_by[partners[index]] < 0:
            explained_by.setdefault(int(partners[index]), index)
    if crowd.any():
        shares = overlaps.iou * (same & crowd)
        taken = (claims < 0) & (shares.max(1) > FOREGROUND_IOU)
        errors = np.where(taken, "ignored", errors)
        partners = np.where(taken, shares.argmax(1), partners)
        ious = np.where(taken, shares.max(1), ious)
    return ImageErrors(
        tuple(
            DetectionOutcome(error, None, None, iou)
            if error == "Bkg"
            else DetectionOutcome(error, partner, truths[partner].class_id, iou)
            for error, partner, iou in zip(errors.tolist(), partners.tolist(), ious.tolist(), strict=True)
        ),
        tuple(
            TruthOutcome(
                by if by >= 0 else None, explained_by.get(t), by < 0 and t not in explained_by and not out, out
            )
            for t, (by, out) in enumerate(zip(found_by[:-1].tolist(), crowd.tolist(), strict=True))
        ),
        overlaps.matched_by,
    )


def _claim(within: Array, order: Array) -> tuple[Array, Array]:
    """Which truth each detection claims, and which detection each truth is claimed by; -1 for none."""
    claims, found_by = np.full(within.shape[0], -1), np.full(within.shape[1], -1)
    for index in order[within.max(1)[order] >= FOREGROUND_IOU]:
        free = np.where(found_by < 0, within[index], 0)
        best = free.argmax()
        if free[best] >= FOREGROUND_IOU:
            claims[index], found_by[best] = best, index
    return claims, found_by


def _first_true(*kinds: tuple[str, Array, Array]) -> tuple[Array, Array]:
    """For each detection the first of the kinds (name, whether it is one, truth) it is: names and truths."""
    names, tests, partners = zip(*kinds, strict=True)
    first = np.argmax(tests, axis=0)
    return np.array(names)[first], np.array(partners)[first, np.arange(len(first))]


def _gains(
    images: Sequence[LabelledImage], detections: Sequence[Sequence[Detection]], outcomes: Sequence[ImageErrors]
) -> tuple[float, dict[str, float]]:
    """TIDE's mAP at IoU 0.5, and by how much it grows when one type of errors is mended.

    A Loc or Cls error is mended by making the one that explains a truth a true positive of that truth's class and
    dropping the others; Both, Dupe and Bkg by dropping them; Miss by dropping the truths.
    """
    everything = [one for several in detections for one in several]
    class_ids = np.array([one.class_id for one in everything], np.int64)
    scores = np.array([one.confidence for one in everything], np.float64)
    errors = np.array([outcome.error for typed in outcomes for outcome in typed.detections], str)
    heir_to, mended_class = np.full(len(everything), "", dtype="<U3"), class_ids.copy()
    wanted, missed = Counter[int](), Counter[int]()
    start = 0
    for image, typed in zip(images, outcomes, strict=True):
        for truth, fate in zip(image.truths, typed.truths, strict=True):
            wanted[truth.class_id] += not fate.left_out
            missed[truth.class_id] += fate.missed
            if fate.explained_by is not None:
                heir = start + fate.explained_by
                heir_to[heir] = "Loc" if class_ids[heir] == truth.class_id else "Cls"
                mended_class[heir] = truth.class_id
        start += len(typed.detections)

    def mended(error: str) -> float:
        heirs = heir_to == error
        kept = heirs | ((errors != error) & (errors != "ignored"))
        correct, classes = heirs | (errors == "TP"), np.where(heirs, mended_class, class_ids)
        return _mean_precision(
            classes[kept], scores[kept], correct[kept], wanted - missed if error == "Miss" else wanted
        )

    before = mended("nothing")
    return before, {error: mended(error) - before for error in ERRORS}


def _mean_precision(class_ids: Array, scores: Array, correct: Array, wanted: Mapping[int, int]) -> float:
    """The mean of average precision over the classes with a detection or a truth; nan where there is none."""
    order = np.argsort(-scores, kind="stable")
    class_ids, correct = class_ids[order], correct[order]
    precisions = []
    for class_id in sorted({*class_ids.tolist(), *(name for name, number in wanted.items() if number)}):
        hits = correct[class_ids == class_id]
        total = hits.cumsum()
        precision = total / np.arange(1, len(hits) + 1)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        number = wanted.get(class_id, 0)
        at = np.searchsorted(total / number, np.arange(101) / 100) if number else np.full(101, len(hits))
        precisions.append(float(envelope[at].mean()))
    return sum(precisions) / len(precisions) if precisions else math.nan
