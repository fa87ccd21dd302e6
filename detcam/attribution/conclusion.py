"""What becomes of a map: its quick receipt, the evidence patch, the status, and the sentence that says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from detcam.adapters.base import DetectorAdapter
from detcam.attribution.evidence import find_evidence, find_surroundings
from detcam.attribution.prepared_image import PreparedImage
from detcam.attribution.receipt import check, hottest_part
from detcam.attribution.sentence import MUCH, sentence_of
from detcam.attribution.unreported import SAME_PLACE
from detcam.geometry import Letterbox, iou_matrix
from detcam.methods.effect import learn_effects
from detcam.methods.regions import box_gaussian
from detcam.probing.frames import Frame, choose_frame
from detcam.probing.probe import Probe
from detcam.targets import Target, against, class_logit
from detcam.tensors.fills import softened
from detcam.types import Detection, Evidence, Explanation, Heatmap

LIKE_THE_BOX = 0.9
"""A map that correlates more than this (Pearson) with a Gaussian in the box says nothing the box did not say."""
STANDS = 0.8
"""A box stands alone that keeps this share of its score, and the threshold, where all else is replaced by any fill."""
BOX_AGAIN = "the map is no more particular than the box itself"
LEAST_CHANGE = 0.1
"""Share of what a target changes by when everything goes that removing the hottest part has to change it by, beyond
what removing a random part does, for a map of another target than the class to be borne out."""


def conclude(
    model: DetectorAdapter,
    prepared: PreparedImage,
    told: Sequence[Explanation],
    targets: Sequence[Target],
    conf: float,
    seed: int,
) -> list[Explanation]:
    """Explanations of one image with receipts (quick ones where they have none), evidence, status and sentence.

    Args:
        model: the detector.
        prepared: the image.
        told: maps made by trying parts of the image, or any maps with receipts.
        targets: what each explains.
        conf: the detector's threshold.
        seed: of the receipts' random parts.
    """
    if not told:
        return []
    asked = [(one.detection, target) for one, target in zip(told, targets, strict=True)]
    probe = Probe(model, prepared.batch, prepared.raw, prepared.index, prepared.letterbox, asked, seed=seed)
    heats = [torch.tensor(np.maximum(one.heatmap.raw, 0), device=prepared.batch.device) for one in told]
    fires = [
        one.detection.asked is None or (is_there(one.detection) and float(probe.before[i]) >= conf)
        for i, one in enumerate(told)
    ]
    quick = [
        number
        for number, one in enumerate(told)
        if one.receipt is None
        and one.status != "no_signal"
        and fires[number]
        and heats[number].any()
        and probe.frame(number).tracked
    ]
    told = list(told)
    for number, receipt in zip(quick, check(probe, {number: heats[number] for number in quick}), strict=True):
        told[number] = replace(told[number], receipt=receipt, forwards=told[number].forwards + receipt.forwards)
    found = []
    for number, one in enumerate(told):
        before = probe.forwards
        ended = _conclude(probe, number, one, heats[number], fires[number], prepared.letterbox, conf)
        found.append(replace(ended, forwards=ended.forwards + probe.forwards - before))
    return found


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
        return _why_not(explanation, probe, number, whole, letterbox, conf)
    if not heat.any():
        told = replace(explanation, status="no_evidence", reason="no part of the image that was tried carries it")
        return replace(told, sentence=sentence_of(told))
    receipt = explanation.receipt
    if not whole.tracked or receipt is None:
        return _of_another_target(explanation, probe, number, whole, heat)
    evidence = None
    if score >= conf:
        stands_alone = min(receipt.box_only.values()) >= max(conf, STANDS * score)
        frame = choose_frame(whole, score)
        evidence = find_evidence(whole, frame, heat.cpu(), letterbox, conf, score, outside=not stands_alone)
        if evidence is None and receipt.context_dependence >= MUCH:
            evidence = find_surroundings(whole, letterbox, conf, score)
    told = replace(explanation, evidence=evidence)
    if evidence is None and not receipt.supported:
        told = replace(told, status="no_evidence", reason=told.reason or (
            "taking the hottest part of the map away costs no more than taking a random part away"
        ))  # fmt: skip
    elif likeness_to_box(heat.cpu(), probe, number) > LIKE_THE_BOX:
        told = replace(told, reason=BOX_AGAIN, status="no_evidence")
        if evidence is not None:
            within = _within(told.heatmap, evidence)
            like = likeness_to_box(torch.tensor(within.raw), probe, number)
            told = replace(told, status="ok", heatmap=_empty(within) if like > LIKE_THE_BOX else within)
    elif explanation.status == "unsupported" and evidence is not None:
        told = replace(told, status="ok")
    return replace(told, sentence=sentence_of(told))


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


def likeness_to_box(heat: torch.Tensor, probe: Probe, number: int) -> float:
    """Pearson correlation of a map (h', w') with a Gaussian in the box, over the image; NaN for a constant one."""
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
    parts = torch.cat([softened(torch.stack([hot, moved]), probe.inside), torch.ones_like(probe.inside)[None].float()])
    images = torch.cat([frame.image[None], *(frame.without(parts, fill) for fill in frame.fills)])
    before, *rest = frame.values(images).tolist()
    removed, random, blank = (float(np.mean(rest[i::3])) for i in range(3))
    return before, removed, random, blank


def _of_another_target(
    explanation: Explanation, probe: Probe, number: int, whole: Frame, heat: torch.Tensor
) -> Explanation:
    """A map of a side, a contrast, a mask, ...: borne out by what its own number does without its hottest part."""
    before, removed, random, blank = _changes(probe, number, whole, heat)
    what = f"{explanation.detection.caption}, {explanation.target}"
    if random - removed < LEAST_CHANGE * abs(before - blank):
        reason = f"{explanation.target} changes no more without the hottest part than without a random part"
        return replace(explanation, status="no_evidence", reason=reason,
                       sentence=f"{what}: no part found that matters more than any other.")  # fmt: skip
    if likeness_to_box(heat.cpu(), probe, number) > LIKE_THE_BOX:
        return replace(explanation, status="no_evidence", reason=BOX_AGAIN, sentence=f"{what}: {BOX_AGAIN}.")
    text = f"{before:.2f} becomes {removed:.2f} without the hottest part (without a random part as large: {random:.2f})"
    return replace(explanation, sentence=f"{what}: {text}.")


def is_there(detection: Detection) -> bool:
    """Whether a prediction lies where it was asked about."""
    asked = detection.asked
    return asked is None or float(iou_matrix(asked[None], detection.xyxy[None])[0, 0]) >= SAME_PLACE


def _why_not(
    explanation: Explanation, probe: Probe, number: int, whole: Frame, letterbox: Letterbox, conf: float
) -> Explanation:
    """The answer about a box that scores below the threshold: how far it is from firing, and what speaks against it."""
    detection = explanation.detection
    if detection.asked is not None and not is_there(detection):
        box = torch.tensor(letterbox.to_network(detection.asked), dtype=torch.float32, device=whole.box.device)
        whole = replace(whole, box=box)
    logit = float(class_logit(whole.raw, 0, detection))
    scores = whole.class_scores(whole.image[None])[0]
    best = int(scores.argmax())
    text = f"no {detection.class_name} here: it scores {float(scores[0]):.2f} of the {conf:.2f} it would need"
    if best and float(scores[best]) >= conf:
        text += f"; the detector sees {whole.model.names[whole.class_ids[best]]} {float(scores[best]):.2f} there"
    elif not is_there(detection):
        text += "; its nearest prediction lies elsewhere"
    frame = replace(whole, target=against)
    # What little speaks for the class says nothing of what speaks against it.
    heat = learn_effects(frame, seed=probe.seed)
    heatmap = Heatmap(heat.numpy(), explanation.heatmap.letterbox)
    told = replace(explanation, heatmap=heatmap, method="effect", target="against", layers=("input",), support=())
    if heat.any():
        before, removed, random, _ = _changes(probe, number, frame, heat)
        if before - removed > max(before - random, 0) + 0.5:
            text += (
                f"; the map shows what speaks against it: without its hottest part the logit rises from {logit:.1f} "
            )
            text += f"to {-removed:.1f} (without a random part as large: {-random:.1f})"
            return replace(told, sentence=f"{text}.")
    empty = _empty(explanation.heatmap)
    reason = "nothing here speaks for it, and nothing in particular against it"
    return replace(told, heatmap=empty, status="no_evidence", reason=reason, sentence=f"{text}; {reason}.")
