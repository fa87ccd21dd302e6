"""Maps over photographs with their boxes, evidence and labels: of one detection, or of all that an image has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detcam.drawing.heat import blend, draw_contours, shown_heat
from detcam.drawing.labels import Label, draw_labels, letter_size
from detcam.drawing.shapes import (
    BOX_COLOUR,
    DARK,
    EVIDENCE_COLOUR,
    WHITE,
    draw_detection,
    draw_patch,
    line_width,
    ring_width,
)
from detcam.drawing.view import View
from detcam.drawing.words import evidence_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Detection, Evidence, Explanation, ImageResult

    Picture = NDArray[np.uint8]


def overlay(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """The map of one detection over its image, with its box, its evidence and labels.

    Args:
        explanation: what is drawn.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        RGB uint8 (H, W, 3), the image's size.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    heat, view = shown_heat(explanation), View.whole(explanation.image.shape)
    return draw_view(explanation, view, heat, explanation.detection.caption, colormap, opacity)


def together(result: ImageResult, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """All maps of an image in one picture, with all boxes, as a video needs it. Where maps overlap the hottest counts.

    Args:
        result: the image with its explanations.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        RGB uint8 (H, W, 3), the image's size.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    heat = np.zeros(result.image.shape[:2], np.float32)
    for explanation in result:
        heat = np.maximum(heat, shown_heat(explanation))
    texts = [explanation.detection.caption for explanation in result]
    evidence = [evidence for explanation in result for evidence in outlined(explanation)]
    view = View.whole(result.image.shape)
    picture = blend(result.image, heat, colormap, opacity)
    line = line_width(picture.shape)
    draw_contours(picture, heat, line)
    return draw_things(picture, [e.detection for e in result], texts, evidence, view, heat, line, label_evidence=False)


def draw_view(
    explanation: Explanation, view: View, heat: NDArray[np.float32], text: str, colormap: str, opacity: float
) -> Picture:
    """A part of an explanation's image with map, box, evidence and labels: RGB uint8 of the view's size.

    Args:
        explanation: what is drawn.
        view: the part.
        heat: float32 (h, w) over the whole image, at any resolution.
        text: the box's label, or empty.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].
    """
    shown = view.heat(heat, explanation.image.shape)
    picture = blend(view.photograph(explanation.image), shown, colormap, opacity)
    line = line_width(picture.shape)
    draw_contours(picture, shown, line)
    return draw_things(picture, [explanation.detection], [text], outlined(explanation), view, shown, line)


def outlined(explanation: Explanation) -> list[Evidence]:
    """The evidence to outline: a list of at most one.

    Where all surroundings are the evidence, its outer edge is outlined; none where that is the image's own edge.
    """
    evidence = explanation.evidence
    if evidence is None:
        return []
    if not evidence.is_all_around:
        return [evidence]
    edge = np.concatenate([evidence.patches[:, :2].min(0), evidence.patches[:, 2:].max(0)])
    height, width = explanation.heatmap.letterbox.original
    return [] if (edge == [0, 0, width, height]).all() else [replace(evidence, patches=edge[None])]


def draw_things(
    picture: Picture,
    detections: Sequence[Detection],
    texts: Sequence[str],
    evidence: Sequence[Evidence],
    view: View,
    heat: NDArray[np.float32] | None,
    line: int,
    label_evidence: bool = True,
) -> Picture:
    """A copy of a picture with boxes, evidence patches and labels drawn.

    Labels lie on no evidence and no other label, and where possible not on the hottest parts.

    Args:
        picture: RGB uint8 (H, W, 3).
        detections: whose boxes are drawn.
        texts: the label of each box; empty for none.
        evidence: whose patches are outlined.
        view: which part of the image the picture shows.
        heat: float32 (H, W) in [0, 1] that labels avoid, or None.
        line: width of lines, pixels.
        label_evidence: also say beside each patch what its box becomes without it; many boxes leave no room for that.
    """
    picture = picture.copy()
    for detection in detections:
        draw_detection(picture, detection, view, line)
    free, labels = [], []
    for detection, text in zip(detections, texts, strict=True):
        labels.append(Label(text, view.bounds(detection.xyxy), BOX_COLOUR, DARK))
    for one in evidence:
        for patch in one.patches:
            draw_patch(picture, patch, view, line)
            free.append(view.bounds(patch) + np.array([-1, -1, 1, 1]) * ring_width(line))
        if label_evidence:
            labels.append(Label(evidence_words(one), free[-len(one.patches)], WHITE, EVIDENCE_COLOUR))
    boxes = [view.bounds(detection.xyxy) for detection in detections]
    return draw_labels(picture, labels, heat, free, boxes, letter_size(picture.shape), line + 1)
