"""What a map explains: one number of one prediction, differentiable.

Every target is bound to an image of the batch and an anchor, never found again by overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from detcam.adapters.base import RawOutput, describe
from detcam.errors import UsageError
from detcam.options import check_target_name, find_class
from detcam.registry import Registry, name_of
from detcam.types import Detection

Target = Callable[[RawOutput, int, Detection], Tensor]
"""Every target takes

- the raw output of a batch, with its graph,
- the image's position in that batch, from 0 on,
- the detection, of which its anchor and its class are read,

and gives a scalar tensor () attached to that graph."""


def class_logit(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The logit of the detection's class; its gradient does not vanish on confident boxes as the probability's does.

    Returns:
        A scalar tensor (), a logit.
    """
    return raw.logits[index, detection.anchor, detection.class_id]


def against(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """Less the class logit: what speaks against the class at the anchor, for an object that was missed.

    Returns:
        A scalar tensor (), a logit.
    """
    return -class_logit(raw, index, detection)


def class_probability(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The probability of the detection's class, without objectness.

    Where each class has a sigmoid of its own, the gradient is the logit's times p (1 - p).

    Returns:
        A scalar tensor () in [0, 1].
    """
    return raw.class_probability(index, detection.anchor, detection.class_id)


def objectness(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The logit that there is anything at all at the anchor; original YOLOv5 and its like have it.

    Returns:
        A scalar tensor (), a logit.

    Raises:
        UsageError: the detector has no objectness.
    """
    if raw.objectness is None:
        raise UsageError("this model has no objectness score: its class logits are the whole score; use target 'class'")
    return raw.objectness[index, detection.anchor]


def score(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """What the detector thresholds: the class probability, times objectness where there is one.

    Returns:
        A scalar tensor () in [0, 1].
    """
    return raw.probability(index, detection.anchor, detection.class_id)


def box_side(side: int) -> Target:
    """The target of one side: its distance from the anchor's centre, network pixels, outwards.

    Args:
        side: 0 left, 1 top, 2 right, 3 bottom.

    Returns:
        A target that raises a UsageError where the model finds no boxes.
    """

    def distance(raw: RawOutput, index: int, detection: Detection) -> Tensor:
        _require_boxes(raw)
        return raw.sides_of(index, detection.anchor, detection.class_id)[side]

    return distance


def box(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The sum of the four side distances: half the box's perimeter.

    Returns:
        A scalar tensor (), network pixels.

    Raises:
        UsageError: the model finds no boxes.
    """
    _require_boxes(raw)
    return raw.sides_of(index, detection.anchor, detection.class_id).sum()


def iou(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """IoU of the anchor's box with itself as it was kept.

    The IoU of a box with itself has a kink at its maximum, so what is differentiated is its one-sided form: how it
    falls when a side moves inwards, which is its area's share of the area as it was. What holds the box open is then
    positive evidence. In changed images it is the IoU with the box of the image as it was: see :func:`hold_target`.

    Returns:
        A scalar tensor () in [0, 1].

    Raises:
        UsageError: the model finds no boxes.
    """
    _require_boxes(raw)
    current = raw.box_of(index, detection.anchor, detection.class_id)
    area = (current[2:] - current[:2]).clamp(min=0).prod()
    return area / area.detach().clamp(min=torch.finfo(area.dtype).tiny)


def _require_boxes(raw: RawOutput) -> None:
    """Refuse a target about a box that is the whole image."""
    if not raw.finds_boxes:
        raise UsageError("this model classifies whole images and finds no boxes; use target 'class' or contrast:CLASS")


@dataclass(frozen=True)
class Contrast:
    """The detection's class logit less another class's at the same anchor: why this class rather than that one.

    Attributes:
        other: the other class's index.
    """

    other: int

    def __call__(self, raw: RawOutput, index: int, detection: Detection) -> Tensor:
        """The difference of the two logits.

        Returns:
            A scalar tensor () attached to the graph.
        """
        return class_logit(raw, index, detection) - raw.logits[index, detection.anchor, self.other]


def mask_area(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The mean mask logit over the cells of the detection's own mask: what makes it cover them.

    Returns:
        A scalar tensor (), a logit.

    Raises:
        UsageError: the model gives no masks.
    """
    return _mean_over(_mask_logits(raw, index, detection), _mask_cells(raw, index, detection))


def _mask_logits(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The logits of a detection's mask, (h, w) cells of the prototypes."""
    if "mask" not in raw.extras:
        raise UsageError("this model gives no masks; target 'mask' is for segmentation models")
    return torch.einsum("k,khw->hw", raw.extras["mask"][index, detection.anchor], raw.extras["prototypes"][index])


def _mask_cells(raw: RawOutput, index: int, detection: Detection) -> Tensor:
    """The cells of a detection's own mask, bool (h, w): in its box, of positive logits where there are any."""
    logits = _mask_logits(raw, index, detection).detach()
    rows, columns = (torch.arange(n, device=logits.device) + 0.5 for n in logits.shape)
    scale = raw.size[0] / logits.shape[0]
    x1, y1, x2, y2 = (raw.boxes[index, detection.anchor].detach() / scale).unbind()
    inside = ((rows >= y1) & (rows <= y2))[:, None] & ((columns >= x1) & (columns <= x2))
    own = inside & (logits > 0)
    return own if own.any() else inside


def _mean_over(logits: Tensor, cells: Tensor) -> Tensor:
    return logits[cells].sum() / max(int(cells.sum()), 1)


def keypoint(number: int, part: str) -> Target:
    """The target of one keypoint: its visibility logit, or its x or y coordinate in network pixels.

    Args:
        number: of the keypoint, from 0 on.
        part: ``visible``, ``x`` or ``y``.

    Returns:
        A target that raises a UsageError where the model has no such keypoint, or no visibility.
    """

    def value(raw: RawOutput, index: int, detection: Detection) -> Tensor:
        points = raw.extras.get("keypoints")
        if points is None:
            raise UsageError("this model gives no keypoints; target 'keypoint' is for pose models")
        if number >= points.shape[2]:
            raise UsageError(f"no keypoint {number}: this model's run from 0 to {points.shape[2] - 1}")
        if part == "visible" and points.shape[3] < 3:
            raise UsageError(
                f"this model's keypoints have no visibility; use keypoint:{number}:x or keypoint:{number}:y"
            )
        return points[index, detection.anchor, number, ("x", "y", "visible").index(part)]

    return value


_BUILTIN: dict[str, Target] = {
    "class": class_logit,
    "against": against,
    "probability": class_probability,
    "objectness": objectness,
    "score": score,
    "box": box,
    "left": box_side(0),
    "top": box_side(1),
    "right": box_side(2),
    "bottom": box_side(3),
    "iou": iou,
    "mask": mask_area,
}


def _as_target(given: Target) -> Target:
    """A target as it is.

    Raises:
        UsageError: it cannot be called.
    """
    if not callable(given):
        raise UsageError(
            f"a target is a name or a function of a raw output, an image's position and a detection, got {given!r}"
        )
    return given


TARGETS: Registry[Target] = Registry(
    "target", "detcam.targets", _as_target, _BUILTIN, reserved=["combined", "contrast", "keypoint"]
)
"""Every target by its name: detcam's, the registered ones, and those of entry points ``detcam.targets``."""


def register_target(name: str, target: Target) -> None:
    """Make a target known by a name, for this process; a package's entry point ``detcam.targets`` does so for all.

    Args:
        name: letters, digits and any of ``_ . + -``.
        target: (raw output, the image's position in its batch, detection) -> a scalar tensor (), in any unit, attached
            to the raw output's graph. It is asked of changed images too, so it must read the ``raw`` it is given.

    Raises:
        UsageError: the name is taken or cannot be one, or ``target`` cannot be called.
    """
    TARGETS.add(name, target)


def resolve_target(target: str | Target) -> tuple[str, str | Target]:
    """What a target is called, and what :func:`find_target` finds it by.

    Args:
        target: a name, which is not looked up yet; or a function, called by its ``__name__``, or by the name that it is
            registered under.

    Raises:
        UsageError: neither of the two, or another target has its name.
    """
    if isinstance(target, str):
        return target, target
    for name, known in TARGETS.items():
        if target is known:
            return name, name
    name = name_of(_as_target(target))
    TARGETS.check_free(name)
    return name, target


def hold_target(target: Target, raw: RawOutput, index: int, detection: Detection) -> Target:
    """A target to be asked of changed images, where it is compared with the image as it was, not with itself.

    ``iou`` is then the overlap with the box as it was, and ``mask`` the mean over the cells of the mask as it was; all
    others are the same.

    Args:
        target: one of :data:`TARGETS`, or another.
        raw: the raw output of the image as it was.
        index: the image's position in that batch.
        detection: what is explained, with its anchor there.
    """
    if target is iou:
        box = raw.box_of(index, detection.anchor, detection.class_id).detach()

        def overlap(other: RawOutput, place: int, one: Detection) -> Tensor:
            own = other.box_of(place, one.anchor, one.class_id)
            inter = (torch.minimum(own[2:], box[2:]) - torch.maximum(own[:2], box[:2])).clamp(min=0).prod()
            area, before = ((sides[2:] - sides[:2]).prod() for sides in (own, box))
            return inter / (area + before - inter).clamp(min=torch.finfo(inter.dtype).tiny)

        return overlap
    if target is mask_area:
        cells = _mask_cells(raw, index, detection)
        return lambda other, place, one: _mean_over(_mask_logits(other, place, one), cells)
    return target


COMBINED_TARGETS = ("class", "left", "top", "right", "bottom")
"""What ``combined`` asks about (ODAM): a map each, scaled by its own peak; the largest counts."""


def target_parts(name: str | Target) -> tuple[str | Target, ...]:
    """The scalars a target stands for: five for ``combined``, else itself.

    Args:
        name: a target's name, or itself.

    >>> target_parts("combined"), target_parts("class")
    (('class', 'left', 'top', 'right', 'bottom'), ('class',))
    """
    return COMBINED_TARGETS if name == "combined" else (name,)


def mirror_target(name: str | Target) -> str | Target:
    """What a target is in an image flipped left to right.

    Raises:
        UsageError: a keypoint, which has no counterpart there, or a target from outside, which may have one or not.

    Args:
        name: a target's name, or itself.

    >>> mirror_target("left"), mirror_target("class")
    ('right', 'class')
    """
    if not isinstance(name, str) or (name in TARGETS and name not in TARGETS.builtin):
        known = name if isinstance(name, str) else name_of(name)
        raise UsageError(f"what target {known!r} is in a flipped image is not known: leave 'aug' out of the smoothing")
    if name.startswith("keypoint"):
        raise UsageError(f"target {name!r} cannot be averaged over flipped images: leave 'aug' out of the smoothing")
    return {"left": "right", "right": "left"}.get(name, name)


def find_target(name: str | Target, names: Mapping[int, str]) -> Target:
    """The target of a name: one of :data:`TARGETS`, ``contrast:CLASS`` or ``keypoint:NUMBER[:PART]``.

    What comes from outside, registered or a function, is wrapped: it raises a UsageError where it gives anything but a
    scalar tensor.

    Args:
        name: a target's name, or itself.
        names: the model's class names by index.

    Raises:
        UsageError: no such target or class, or several classes of that name.
    """
    if not isinstance(name, str):
        return _require_scalar(name_of(name), name)
    check_target_name(name)
    kind, _, argument = name.partition(":")
    if kind == "contrast":
        return Contrast(find_class(argument, names))
    if kind == "keypoint":
        number, _, part = argument.partition(":")
        return keypoint(int(number), part or "visible")
    return TARGETS[name] if name in TARGETS.builtin else _require_scalar(name, TARGETS[name])


def _require_scalar(name: str, target: Target) -> Target:
    """A target that refuses to be anything but a scalar tensor."""

    def value(raw: RawOutput, index: int, detection: Detection) -> Tensor:
        number = target(raw, index, detection)
        if not isinstance(number, Tensor) or number.ndim:
            raise UsageError(f"target {name!r} has to give a scalar tensor, and gave {describe(number)}")
        return number

    return value
