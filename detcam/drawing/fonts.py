"""Fonts that have the characters asked for, and text that fits a width. Sizes are in pixels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont

from detcam.alone import alone

with alone():  # else matplotlib asks other programs for their fonts
    from matplotlib.font_manager import fontManager, get_font

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@lru_cache(maxsize=512)
def font_file(text: str) -> str:
    """The file of a font that has every character of ``text``: matplotlib's own, else the first such one installed."""
    own = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    installed = sorted(font.fname for font in fontManager.ttflist if "LastResort" not in font.fname)  # it has them all
    for file in [own] if text.isascii() else [own, *installed]:
        if {ord(c) for c in text if c != "\n"} <= _characters(file):
            return file
    return own


def drawable(text: str) -> str:
    """``text`` with a hollow square in place of each character that its font does not have."""
    known = _characters(font_file(text))
    return "".join(c if ord(c) in known or c == "\n" else "\N{WHITE SQUARE}" for c in text)


def typeface(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The font to draw ``text`` with, ``size`` pixels high."""
    return _loaded(font_file(text), size)


def wrapped(text: str, size: int, width: int, most: int) -> list[str]:
    """Text broken into lines; an ellipsis marks what did not fit.

    Lines break at blanks; a word wider than a line is cut.

    Args:
        text: what to write.
        size: of the letters, pixels.
        width: of a line at most, pixels.
        most: lines at most.
    """
    font, line = typeface(text, size), ""
    lines: list[str] = []
    words = drawable(text).split()
    while words and len(lines) < most:
        word = words.pop(0)
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
        elif line:
            lines.append(line)
            line = ""
            words.insert(0, word)
        else:
            fits = max(_fitting(word, font, width), 1)
            lines.append(word[:fits])
            words[:0] = [word[fits:]] if word[fits:] else []
    if line and len(lines) < most:
        lines.append(line)
        line = ""
    if line or words:
        lines[-1] = shortened(f"{lines[-1]} {ELLIPSIS}", size, width)
    return lines


def shortened(text: str, size: int, width: float) -> str:
    """Text cut to a width, with an ellipsis where something is missing; empty where not even one letter fits.

    Args:
        text: what to write; a break in it, which a class's name may have, becomes a blank.
        size: of the letters, pixels.
        width: pixels.
    """
    text = " ".join(text.splitlines())
    font, text = typeface(text, size), drawable(text)
    if font.getlength(text) <= width:
        return text
    fits = _fitting(text.rstrip(ELLIPSIS), font, width - font.getlength(ELLIPSIS))
    return f"{text[:fits].rstrip()}{ELLIPSIS}" if fits else ""


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many leading characters of ``text`` are no wider than ``width``."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


@lru_cache(maxsize=128)
def _loaded(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


@lru_cache(maxsize=512)
def _characters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())
