"""Ultralytics heads run on live features: the answering branch only, never detached, and with raw logits kept.

Each head differs in how a class logit is made and in what a prediction carries besides its box. The structure of what a
head returns changed between releases; its convolutions and their names did not, and they are all that is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detcam.adapters.base import RawOutput
from detcam.adapters.own_forward import OwnPredictions
from detcam.alone import alone
from detcam.errors import WeightsError

with alone():
    from ultralytics.nn.modules import head as vendor
    from ultralytics.utils import DEFAULT_CFG_DICT

KNOWN_HEADS = frozenset(
    getattr(vendor, name)
    for name in (
        "Detect", "v10Detect", "WorldDetect", "YOLOEDetect", "Segment", "Segment26", "YOLOESegment", "YOLOESegment26",
        "Pose", "Pose26", "OBB", "OBB26", "RTDETRDecoder",
    )
    if hasattr(vendor, name)
)  # fmt: skip
"""The vendor's classes that are run here; what a subclass of one does before is run as it is."""
PROPOSAL_CONFIDENCE = 0.001
"""What a prompt-free YOLOE's proposal filter asks of an anchor before it looks at its class."""


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head answers for every anchor (or query).

    Attributes:
        logits: (batch, anchor, class).
        sides: (batch, anchor, 4) distances left, top, right, bottom from the centre, pixels of the detector's input; in
            the rotated frame where there is an angle.
        centres: (anchor, 2), or (batch, anchor, 2) for queries, pixels.
        strides: (anchor,); 0 for queries, which lie on no grid.
        extras: by name: ``angle`` (batch, anchor) radians; ``mask`` (batch, anchor, k) coefficients of ``prototypes``
            (batch, k, h, w); ``keypoints`` (batch, anchor, n, 2 or 3) pixels and visibility logit.
    """

    logits: Tensor
    sides: Tensor
    centres: Tensor
    strides: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


def check_head(head: Any, task: str) -> None:
    """Refuse a model whose last layer is no detection head.

    Raises:
        WeightsError: naming what it is.

    Args:
        head: the model's last layer.
        task: what the model says it is for.
    """
    if not isinstance(head, vendor.Detect | vendor.RTDETRDecoder):
        raise WeightsError(
            f"this model ends in {type(head).__name__} (task {task!r}); detcam explains detectors: YOLO detection, "
            "segmentation, pose and oriented-box weights, RT-DETR, YOLO-World and YOLOE"
        )


def is_rtdetr(head: Any) -> bool:
    """Whether predictions are queries of a transformer, not anchors of a grid.

    Args:
        head: the vendor's module.
    """
    return isinstance(head, vendor.RTDETRDecoder)


def is_class_agnostic(head: Any) -> bool:
    """Whether ``predict()`` lets boxes of different classes suppress each other: its default for YOLOE.

    Args:
        head: the vendor's module.
    """
    return isinstance(head, vendor.YOLOEDetect)


def has_one_to_one(head: Any) -> bool:
    """Whether the head has an NMS-free branch.

    Args:
        head: the vendor's module.
    """
    return getattr(head, "one2one_cv2", None) is not None


def predicts_one_to_one(head: Any) -> bool:
    """Whether ``predict()`` takes the NMS-free branch unless told otherwise.

    Releases with an ``end2end`` setting leave that to the head; later ones (``nms`` in its place) do not take it.

    Args:
        head: the vendor's module.
    """
    if not has_one_to_one(head):
        return False
    return getattr(head, "cv2", None) is None or ("end2end" in DEFAULT_CFG_DICT and bool(head.end2end))


def run_head(
    head: Any, features: Sequence[Tensor], prompts: Tensor | None, one_to_one: bool, size: tuple[int, int]
) -> HeadOutput:
    """Run a head's answering branch.

    Args:
        head: the vendor's module.
        features: its inputs, one (batch, channel, h, w) per level.
        prompts: (batch, class, embedding) of a text-prompted head, else None.
        one_to_one: take the NMS-free branch.
        size: (height, width) of the detector's input.
    """
    if is_rtdetr(head):
        return _run_decoder(head, features, size)
    prefix = "one2one_" if one_to_one else ""
    exact = torch.promote_types(features[0].dtype, torch.float32)  # float16 has too few digits for pixels
    logits = _class_logits(head, prefix, features, prompts).to(exact).transpose(1, 2)
    distances = head.dfl(_per_anchor(_box_convolutions(head, prefix), features)).to(exact).transpose(1, 2)
    centres, strides = _grid(features, head.stride, exact)
    extras = {name: value.to(exact) for name, value in _extras(head, prefix, features).items()}
    if "angle" in extras:
        extras["angle"] = extras["angle"][..., 0]
    if "keypoints" in extras:
        extras["keypoints"] = _keypoints(head, extras["keypoints"], centres, strides)
    return HeadOutput(logits, distances * strides[:, None], centres * strides[:, None], strides, extras)


def read_answer(head: Any, answer: Any, raw: RawOutput, one_to_one: bool) -> OwnPredictions:
    """What a whole model of the vendor's answered for one image, beside the same of a raw output.

    Args:
        head: the vendor's module.
        answer: a tensor, or one with prototypes and raw predictions around it, whose nesting is the release's.
        raw: of the same image, its boxes upright, with ``rotated`` among its extras for rotated boxes.
        one_to_one: the NMS-free branch answered.
    """
    ranked = one_to_one or is_rtdetr(head)
    extras = {name: value[0] for name, value in raw.extras.items()}
    corners = extras.pop("rotated", raw.boxes[0])
    boxes = corners[:, :4]
    if corners.shape[1] == 4 and not (one_to_one or getattr(head, "xyxy", False)):
        boxes = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    others = [corners[:, 4:], extras.get("mask", boxes[:, :0])]
    if "keypoints" in extras:
        points = extras["keypoints"]
        others.append(torch.cat([points[..., :2], points[..., 2:].sigmoid()], -1).flatten(1))
    scores = raw.logits[0].sigmoid()
    ours = {"boxes": boxes, "scores": scores, "extras": torch.cat(others, 1)}
    outer = answer
    while not isinstance(answer, Tensor):
        outer, answer = answer, answer[0]
    rows = answer[0] if ranked else answer[0].T
    if len(rows) != len(scores) and not ranked:  # a prompt-free YOLOE leaves out what its filter rejects
        kept = raw.logits[0].isfinite().any(-1)
        ours = {name: part[kept] for name, part in ours.items()}
    numbers = [4, 1, 1] if ranked else [4, scores.shape[1]]
    own_boxes, own_scores, *rest = torch.split(rows, [*numbers, rows.shape[1] - sum(numbers)], 1)
    if is_rtdetr(head):  # shares of the input
        own_boxes = own_boxes * torch.tensor([raw.size[1], raw.size[0]] * 2, device=rows.device)
    own = {"boxes": own_boxes, "scores": own_scores, "extras": rest[-1]}
    if "prototypes" in extras:
        own["prototypes"], ours["prototypes"] = outer[1][0], extras["prototypes"]
    return OwnPredictions(own, ours, rest[0][:, 0].long() if ranked else None)


def _per_anchor(convolutions: Any, features: Sequence[Tensor]) -> Tensor:
    """One convolution per level, all levels' cells in a row: (batch, channel, anchor)."""
    return torch.cat([conv(x).flatten(2) for conv, x in zip(convolutions, features, strict=True)], 2)


def _box_convolutions(head: Any, prefix: str) -> list[Any]:
    """What turns features into box distances, one for each level."""
    boxes = list(getattr(head, f"{prefix}cv2"))
    if (proposals := _proposals(head, prefix)) is None:
        return boxes
    return [lambda x, conv=conv, last=p.loc: last(conv(x)) for conv, p in zip(boxes, proposals, strict=True)]


def _proposals(head: Any, prefix: str) -> Any:
    """The proposal filters and vocabulary of a prompt-free YOLOE, else None."""
    if not hasattr(head, "lrpc"):
        return None
    return getattr(head, f"{prefix}lrpc", head.lrpc)


def _class_logits(head: Any, prefix: str, features: Sequence[Tensor], prompts: Tensor | None) -> Tensor:
    """(batch, class, anchor)."""
    embeddings = [conv(x) for conv, x in zip(getattr(head, f"{prefix}cv3"), features, strict=True)]
    if (proposals := _proposals(head, prefix)) is not None:
        return torch.cat([_vocabulary(head, p, e) for p, e in zip(proposals, embeddings, strict=True)], 2)
    if prompts is not None:
        contrast = getattr(head, f"{prefix}cv4")
        embeddings = [match(e, prompts) for match, e in zip(contrast, embeddings, strict=True)]
    return torch.cat([e.flatten(2) for e in embeddings], 2)


def _vocabulary(head: Any, proposal: Any, embedding: Tensor) -> Tensor:
    """Class logits of one level of a prompt-free YOLOE; anchors its filter rejects have none (minus infinity)."""
    if not proposal.enabled:
        return torch.as_tensor(proposal.vocab(embedding)).flatten(2)
    kept = proposal.pf(embedding).flatten(1).sigmoid() > getattr(head, "conf", PROPOSAL_CONFIDENCE)
    logits = proposal.vocab(embedding.flatten(2).transpose(1, 2)).transpose(1, 2)
    return torch.as_tensor(logits).masked_fill(~kept[:, None], -torch.inf)


def _grid(features: Sequence[Tensor], level_strides: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cell centres (anchor, 2) in cells, and each anchor's stride (anchor,)."""
    centres, strides = [], []
    for level, stride in zip(features, level_strides.tolist(), strict=True):
        rows, columns = (torch.arange(n, device=level.device, dtype=dtype) + 0.5 for n in level.shape[2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack([x, y], -1).flatten(0, 1))
        strides.append(torch.full((x.numel(),), stride, device=level.device, dtype=dtype))
    return torch.cat(centres), torch.cat(strides)


def _extras(head: Any, prefix: str, features: Sequence[Tensor]) -> dict[str, Tensor]:
    """What predictions carry besides box and class, as the convolutions give it: (batch, anchor, channel)."""
    if isinstance(head, vendor.OBB):
        angle = _per_anchor(getattr(head, f"{prefix}cv4"), features).transpose(1, 2)
        raw = isinstance(head, getattr(vendor, "OBB26", ()))
        return {"angle": angle if raw else (angle.sigmoid() - 0.25) * torch.pi}
    if isinstance(head, vendor.Pose):
        points = list(getattr(head, f"{prefix}cv4"))
        if isinstance(head, getattr(vendor, "Pose26", ())):
            last = getattr(head, f"{prefix}cv4_kpts")
            points = [lambda x, a=a, b=b: b(a(x)) for a, b in zip(points, last, strict=True)]
        return {"keypoints": _per_anchor(points, features).transpose(1, 2)}
    masks = "cv5" if isinstance(head, vendor.YOLOESegment) else "cv4" if isinstance(head, vendor.Segment) else None
    if masks is None:
        return {}
    of_all = isinstance(head, tuple(getattr(vendor, n) for n in ("Segment26", "YOLOESegment26") if hasattr(vendor, n)))
    prototypes = head.proto(list(features) if of_all else features[0])
    return {
        "mask": _per_anchor(getattr(head, prefix + masks), features).transpose(1, 2),
        "prototypes": prototypes[0] if isinstance(prototypes, tuple) else prototypes,
    }


def _keypoints(head: Any, raw: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """(batch, anchor, n, 2 or 3): pixels, and the visibility logit where the model has it."""
    points = raw.reshape(*raw.shape[:2], *head.kpt_shape)
    if isinstance(head, getattr(vendor, "Pose26", ())):
        xy = points[..., :2] + centres[:, None]
    else:
        xy = points[..., :2] * 2 + (centres - 0.5)[:, None]
    return torch.cat([xy * strides[:, None, None], points[..., 2:]], -1)


def _run_decoder(head: Any, features: Sequence[Tensor], size: tuple[int, int]) -> HeadOutput:
    """RT-DETR: every query's last answer. Which queries there are is a top-k and has no gradient; their logits do."""
    head.shapes = []  # its anchors may have been cached where nothing has a gradient
    known: Any = next(kind for kind in type(head).__mro__ if kind in KNOWN_HEADS)
    _, (boxes, scores, *_) = known.forward(head, list(features))
    exact = torch.promote_types(features[0].dtype, torch.float32)
    boxes, logits = boxes.squeeze(0).to(exact), scores.squeeze(0).to(exact)
    pixels = boxes * torch.tensor([size[1], size[0]] * 2, device=boxes.device, dtype=exact)
    half = pixels[..., 2:] / 2
    strides = torch.zeros(boxes.shape[1], device=boxes.device, dtype=exact)
    # The centre is the query's own answer; the sides are measured from where it stands, so a shift shows in all four.
    centres = pixels[..., :2].detach()
    moved = pixels[..., :2] - centres
    return HeadOutput(logits, torch.cat([half - moved, half + moved], -1), centres, strides)
