"""What becomes of a map: its quick receipt, the evidence patch, the status, and the sentence that says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from detcam.attribution.evidence import find_evidence, find_surroundings
from detcam.attribution.receipt import hottest_part, make_quick_receipts
from detcam.attribution.sentence import MUCH_CONTEXT, sentence_of
from detcam.attribution.unreported import SAME_PLACE_IOU
from detcam.geometry import Letterbox, iou_matrix
from detcam.methods.effect import learn_effects
from detcam.methods.regions import box_gaussian
from detcam.probing.frames import Frame, choose_frame
from detcam.probing.prepared_image import PreparedImage
from detcam.probing.probe import Probe
from detcam.targets import Target, against, class_logit
from detcam.tensors.fills import soften_masks
from detcam.types import Detection, Evidence, Explanation, Heatmap

MAX_BOX_CORRELATION = 0.9
"""A map that correlates more than this (Pearson) with a Gaussian in the box says nothing the box did not say."""
STANDS_ALONE_SHARE = 0.8
"""A box stands alone if it keeps this share of its score, and exceeds the threshold, with all else replaced."""
BOX_AGAIN_REASON = "the map is no more particular than the box itself"
MIN_CHANGE_SHARE = 0.1
"""Share of what a target changes by when everything goes that removing the hottest part has to change it by, beyond
what removing a random part does, for a map of another target than the class to be borne out."""


def conclude(
    prepared: PreparedImage,
    explanations: Sequence[Explanation],
    targets: Sequence[Target],
    conf: float,
    seed: int,
) -> list[Explanation]:
    """Explanations of one image with receipts (quick ones where they have none), evidence, status and sentence.

    Args:
        prepared: the image.
        explanations: maps made by trying parts of the image, or any maps with receipts.
        targets: what each explains.
        conf: the detector's threshold.
        seed: of the receipts' random parts.
    """
    if not explanations:
        return []
    asked = [(one.detection, target) for one, target in zip(explanations, targets, strict=True)]
    probe = Probe(prepared, asked, seed=seed)
    heats = [torch.tensor(np.maximum(one.heatmap.raw, 0), device=prepared.batch.device) for one in explanations]
    fires = [
        one.detection.asked is None or (is_at_asked_place(one.detection) and float(probe.before[i]) >= conf)
        for i, one in enumerate(explanations)
    ]
    quick = [
        number
        for number, one in enumerate(explanations)
        if one.receipt is None
        and one.status != "no_signal"
        and fires[number]
        and heats[number].any()
        and probe.frame(number).tracked
    ]
    explanations = list(explanations)
    receipts = make_quick_receipts(probe, {number: heats[number] for number in quick})
    for number, receipt in zip(quick, receipts, strict=True):
        forwards = explanations[number].forwards + receipt.forwards
        explanations[number] = replace(explanations[number], receipt=receipt, forwards=forwards)
    concluded = []
    for number, one in enumerate(explanations):
        before = probe.forwards
        ended = _conclude(probe, number, one, heats[number], fires[number], prepared.letterbox, conf)
        concluded.append(replace(ended, forwards=ended.forwards + probe.forwards - before))
    return concluded


def _conclude(
    probe: Probe,
    number: int,
    explanation: Explanation,
    heat: torch.Tensor,
    fires: bool,
    letterbox: Letterbox,
    conf: float,
) -> Explanation:
    """One explanation, its receipt made, with evidence, status and sentence; ``probe`` counts its passes.

    Args:
        probe: the image.
        number: of the explanation's detection there.
        explanation: what is concluded.
        heat: (h', w'), its map where it is positive.
        fires: False for a box asked about that scores below the threshold, or has no prediction in its place.
        letterbox: places the detector's input in the original image.
        conf: the detector's threshold.
    """
    if explanation.status == "no_signal":
        return replace(explanation, sentence=sentence_of(explanation))
    whole = probe.frame(number)
    score = float(probe.before[number])
    if not fires:
        return _conclude_unreported(explanation, probe, number, whole, letterbox, conf)
    if not heat.any():
        concluded = replace(explanation, status="no_evidence", reason="no part of the image that was tried carries it")
        return replace(concluded, sentence=sentence_of(concluded))
    receipt = explanation.receipt
    if not whole.tracked or receipt is None:
        return _conclude_other_target(explanation, probe, number, whole, heat)
    evidence = None
    if score >= conf:
        stands_alone = min(receipt.box_only.values()) >= max(conf, STANDS_ALONE_SHARE * score)
        frame = choose_frame(whole, score)
        evidence = find_evidence(whole, frame, heat.cpu(), letterbox, conf, score, outside=not stands_alone)
        if evidence is None and receipt.context_dependence >= MUCH_CONTEXT:
            evidence = find_surroundings(whole, letterbox, conf, score)
    concluded = replace(explanation, evidence=evidence)
    if evidence is None and not receipt.supported:
        concluded = replace(concluded, status="no_evidence", reason=concluded.reason or (
            "taking the hottest part of the map away costs no more than taking a random part away"
        ))  # fmt: skip
    elif correlate_with_box(heat.cpu(), probe, number) > MAX_BOX_CORRELATION:
        concluded = replace(concluded, reason=BOX_AGAIN_REASON, status="no_evidence")
        if evidence is not None:
            within = _within(concluded.heatmap, evidence)
            like = correlate_with_box(torch.tensor(within.raw), probe, number)
            within = _empty(within) if like > MAX_BOX_CORRELATION else within
            concluded = replace(concluded, status="ok", heatmap=within)
    elif explanation.status == "unsupported" and evidence is not None:
        concluded = replace(concluded, status="ok")
    return replace(concluded, sentence=sentence_of(concluded))


def _within(heatmap: Heatmap, evidence: Evidence) -> Heatmap:
    """What of a map lies in the evidence patches; of one that is the box again, this is what is known of the inside."""
    height, width = heatmap.raw.shape
    rows, columns = heatmap.letterbox.network[0] / height, heatmap.letterbox.network[1] / width
    kept = np.zeros(heatmap.raw.shape, bool)
    for x1, y1, x2, y2 in heatmap.letterbox.to_network(evidence.patches.astype(np.float64)):
        kept[max(round(y1 / rows), 0) : round(y2 / rows), max(round(x1 / columns), 0) : round(x2 / columns)] = True
    return Heatmap(np.where(kept, heatmap.raw, 0).astype(np.float32), heatmap.letterbox)


def _empty(heatmap: Heatmap) -> Heatmap:
    """A map without heat in another's place."""
    return Heatmap(np.zeros_like(heatmap.raw), heatmap.letterbox)


def correlate_with_box(heat: torch.Tensor, probe: Probe, number: int) -> float:
    """Pearson correlation of a map with a Gaussian in the box, over the image.

    Args:
        heat: (h', w') over the detector's input, of any size.
        probe: the image.
        number: of the detection there.

    Returns:
        In [-1, 1]; NaN for a constant map.
    """
    shape = (probe.inside.shape[0], probe.inside.shape[1])
    inside = probe.inside.cpu()
    full = F.interpolate(heat[None, None].float(), shape, mode="bilinear")[0, 0][inside]
    gaussian = box_gaussian(probe.boxes[number].cpu(), shape)[inside]
    return float(torch.corrcoef(torch.stack([full, gaussian]))[0, 1])


def _changes(probe: Probe, number: int, frame: Frame, heat: torch.Tensor) -> tuple[float, float, float, float]:
    """A target in the whole image: as it is, and means over fills without the hottest part of a map, without a random
    part as large, and with everything replaced.
    """
    hot, moved = hottest_part(probe, number, heat.to(frame.image.device))
    parts = torch.cat(
        [soften_masks(torch.stack([hot, moved]), probe.inside), torch.ones_like(probe.inside)[None].float()]
    )
    images = torch.cat([frame.image[None], *(frame.without(parts, fill) for fill in frame.fills)])
    before, *rest = frame.values(images).tolist()
    removed, random, blank = (float(np.mean(rest[i::3])) for i in range(3))
    return before, removed, random, blank


def _conclude_other_target(
    explanation: Explanation, probe: Probe, number: int, whole: Frame, heat: torch.Tensor
) -> Explanation:
    """A map of a side, a contrast, a mask, ...: borne out by what its own number does without its hottest part."""
    before, removed, random, blank = _changes(probe, number, whole, heat)
    what = f"{explanation.detection.caption}, {explanation.target}"
    if random - removed < MIN_CHANGE_SHARE * abs(before - blank):
        reason = f"{explanation.target} changes no more without the hottest part than without a random part"
        return replace(explanation, status="no_evidence", reason=reason,
                       sentence=f"{what}: no part found that matters more than any other.")  # fmt: skip
    if correlate_with_box(heat.cpu(), probe, number) > MAX_BOX_CORRELATION:
        return replace(
            explanation, status="no_evidence", reason=BOX_AGAIN_REASON, sentence=f"{what}: {BOX_AGAIN_REASON}."
        )
    text = f"{before:.2f} becomes {removed:.2f} without the hottest part (without a random part as large: {random:.2f})"
    return replace(explanation, sentence=f"{what}: {text}.")


def is_at_asked_place(detection: Detection) -> bool:
    """Whether a prediction overlaps the box that was asked about by an IoU of at least 0.5; true where none was asked
    about.

    Args:
        detection: reported, or the answer to a question about a box.
    """
    asked = detection.asked
    return asked is None or float(iou_matrix(asked[None], detection.xyxy[None])[0, 0]) >= SAME_PLACE_IOU


def _conclude_unreported(
    explanation: Explanation, probe: Probe, number: int, whole: Frame, letterbox: Letterbox, conf: float
) -> Explanation:
    """The answer about a box that scores below the threshold: how far it is from firing, and what speaks against it."""
    detection = explanation.detection
    if detection.asked is not None and not is_at_asked_place(detection):
        box = torch.tensor(letterbox.to_network(detection.asked), dtype=torch.float32, device=whole.box.device)
        whole = replace(whole, box=box)
    logit = float(class_logit(whole.raw, 0, detection))
    scores = whole.own_class_scores
    best = int(scores.argmax())
    text = f"no {detection.class_name} here: it scores {float(scores[0]):.2f} of the {conf:.2f} it would need"
    if best and float(scores[best]) >= conf:
        text += f"; the detector sees {whole.model.names[whole.class_ids[best]]} {float(scores[best]):.2f} there"
    elif not is_at_asked_place(detection):
        text += "; its nearest prediction lies elsewhere"
    frame = replace(whole, target=against)
    # Evidence for the class, of which there is little here, does not show what is evidence against it.
    heat = learn_effects(frame, seed=probe.seed)
    heatmap = Heatmap(heat.numpy(), explanation.heatmap.letterbox)
    concluded = replace(explanation, heatmap=heatmap, method="effect", target="against", layers=("input",), support=())
    if heat.any():
        before, removed, random, _ = _changes(probe, number, frame, heat)
        if before - removed > max(before - random, 0) + 0.5:
            text += (
                f"; the map shows what speaks against it: without its hottest part the logit rises from {logit:.1f} "
            )
            text += f"to {-removed:.1f} (without a random part as large: {-random:.1f})"
            return replace(concluded, sentence=f"{text}.")
    empty = _empty(explanation.heatmap)
    reason = "nothing here speaks for it, and nothing in particular against it"
    return replace(concluded, heatmap=empty, status="no_evidence", reason=reason, sentence=f"{text}; {reason}.")
