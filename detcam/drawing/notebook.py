"""Explanations as notebooks show them: HTML with small pictures, well below 200 kB."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detcam.drawing.overlays import overlay
from detcam.drawing.reduced import reduced
from detcam.drawing.words import note_of, shown_sentence
from detcam.types import ImageResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Explanation

ONE_SIDE_PX, ONE_BYTES = 640, 120_000
"""The longer side of an explanation's picture, and its bytes as a JPEG at most."""
SEVERAL_SIDE_PX, SEVERAL_BYTES, MOST_PICTURES = 320, 15_000, 8
"""The same of each explanation of an image, and how many of them have a picture."""
MOST_SENTENCES = 40
JPEG_QUALITIES = (80, 60, 40, 20, 5)


def explanation_html(explanation: Explanation) -> str:
    """One explanation: its picture, made small, its sentence, and how it was made."""
    picture = _picture(explanation, ONE_SIDE_PX, ONE_BYTES)
    return f"<div>{picture}<p><b>{_text(shown_sentence(explanation))}</b><br>{_text(note_of(explanation))}</p></div>"


def result_html(result: ImageResult) -> str:
    """All explanations of an image: the first with pictures, others with their sentences, the rest as a number."""
    height, width = result.image.shape[:2]
    shown = [
        f'<div style="display:inline-block;vertical-align:top;width:{SEVERAL_SIDE_PX}px;margin:4px">'
        f"{_picture(one, SEVERAL_SIDE_PX, SEVERAL_BYTES)}<p>{number}. {_text(shown_sentence(one))}</p></div>"
        for number, one in enumerate(result[:MOST_PICTURES])
    ]
    told = [
        f"<li value={number}>{_text(shown_sentence(one))}</li>"
        for number, one in enumerate(result[MOST_PICTURES:MOST_SENTENCES], MOST_PICTURES)
    ]
    listing = f"<ol>{''.join(told)}</ol>" if told else ""
    left = f"<p>and {len(result) - MOST_SENTENCES} more</p>" if len(result) > MOST_SENTENCES else ""
    title = f"{_text(result.source)}, {width} x {height} pixels: {len(result)} of {len(result.detections)} explained"
    return f"<div><p>{title}</p>{''.join(shown)}{listing}{left}</div>"


def _picture(explanation: Explanation, side: int, most_bytes: int) -> str:
    """The map over its image as an inline JPEG."""
    (small,) = reduced(ImageResult("", explanation.image, (), (explanation,)), side)
    data = _jpeg(overlay(small), most_bytes)
    return f'<img style="max-width:100%" alt="" src="data:image/jpeg;base64,{b64encode(data).decode()}">'


def _jpeg(picture: NDArray[np.uint8], most_bytes: int) -> bytes:
    """A picture of any size as JPEG, as good as so many bytes let it be."""
    for quality in JPEG_QUALITIES:
        data: bytes = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
        if len(data) <= most_bytes:
            break
    return data


def _text(text: str) -> str:
    """Text of at most 600 letters, safe in HTML."""
    return escape(text.encode("utf-8", "backslashreplace").decode()[:600])
