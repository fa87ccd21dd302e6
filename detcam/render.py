"""Draw maps. Everything here returns a new RGB uint8 picture; normalising happens once, in ``Heatmap.array``."""

from __future__ import annotations

import math
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from detcam.errors import InputError, UsageError, nearest
from detcam.files import locate, write_whole
from detcam.methods import METHODS
from detcam.reduced import reduced
from detcam.types import ImageResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from detcam.types import Detection, Explanation

    Picture = NDArray[np.uint8]

BOX_COLOUR = (90, 255, 170)
ASKED_COLOUR = (255, 255, 255)
SMALL = 0.02
"""A box that covers less of the image than this is also shown zoomed."""
PIXELWISE = 64
"""A raw map as large as the detector's input and larger than this has single pixels for cells."""
STRIPE = 512
"""Rows blended at once."""
MOST_MAPS = 24
"""How many maps one panel shows; the most confident ones."""


def colourmap(name: str) -> NDArray[np.float32]:
    """A colour map as float32 (256, 3) RGB in [0, 255]: any of matplotlib's names.

    Raises:
        UsageError: no such colour map.
    """
    if name not in mpl.colormaps:
        raise UsageError(
            f"no colour map {name!r}{nearest(name, ['inferno', 'magma', 'viridis', 'cividis', 'turbo', 'jet'])}"
        )
    return np.asarray(mpl.colormaps[name](np.arange(256), bytes=True)[:, :3], np.float32)


def blend(image: Picture, heat: NDArray[np.float32], colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """Lay a map over an image: the hotter, the more of the colour, so that what is cold stays a photograph.

    Args:
        image: RGB uint8 (H, W, 3).
        heat: float32 (H, W) in [0, 1].
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {opacity!r}")
    colours, picture = colourmap(colormap), np.empty(image.shape, np.uint8)
    for top in range(0, len(image), STRIPE):  # of a large image the whole would take tens of gigabytes
        rows = slice(top, top + STRIPE)
        alpha = opacity * np.sqrt(heat[rows])[..., None]
        colour = colours[np.rint(heat[rows] * 255).astype(np.uint8)]
        grey = image[rows] @ np.array([0.299, 0.587, 0.114], np.float32)
        muted = 0.4 * image[rows] + 0.5 * grey[..., None]
        picture[rows] = np.rint(muted * (1 - alpha) + colour * alpha)
    return picture


def heat_of(explanation: Explanation) -> NDArray[np.float32]:
    """What of a map is drawn, float32 (H, W) in [0, 1]: itself, or smoothed where each value is one pixel's.

    Single pixels cannot be seen over a photograph; the smoothing's deviation is a hundredth of the longer side.
    """
    heat = explanation.heatmap.array
    if not is_pixelwise(explanation):
        return heat
    smooth = cv2.GaussianBlur(heat, (0, 0), max(heat.shape) / 100)
    return np.asarray(smooth / max(float(smooth.max()), float(np.finfo(np.float32).tiny)), np.float32)


def is_pixelwise(explanation: Explanation) -> bool:
    """Whether the raw map has a value for every pixel of the detector's input."""
    heatmap = explanation.heatmap
    return heatmap.raw.shape == heatmap.letterbox.network and max(heatmap.raw.shape) > PIXELWISE


def overlay(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """The map over its image, with its box and caption: RGB uint8 (H, W, 3)."""
    picture = blend(explanation.image, heat_of(explanation), colormap, opacity)
    note = "" if explanation.status == "ok" else f" ({explanation.status.replace('_', ' ')})"
    return _draw_box(picture, explanation.detection, explanation.detection.caption + note)


def together(result: ImageResult, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """Every map over its image at once, the hottest counting, with all boxes: RGB uint8 (H, W, 3), as a video needs."""
    heat = np.zeros(result.image.shape[:2], np.float32)
    for explanation in result:
        heat = np.maximum(heat, heat_of(explanation))
    picture = blend(result.image, heat, colormap, opacity)
    for explanation in result:
        picture = _draw_box(picture, explanation.detection, explanation.detection.caption)
    return picture


def zoom(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6, side: int = 480) -> Picture:
    """The part of the overlay around the box, enlarged: RGB uint8, its longer side ``side`` pixels.

    A rotated box is turned upright.
    """
    drawn = reduced(ImageResult("", explanation.image, (), (explanation,)))[0]
    heat = heat_of(drawn)
    if (corners := rotated_corners(drawn.detection)) is not None:
        return _zoom_upright(blend(drawn.image, heat, colormap, opacity), corners, side)
    x1, y1, x2, y2 = zoom_window(explanation)
    scale = side / max(x2 - x1, y2 - y1)
    crop = blend(explanation.image[y1:y2, x1:x2], _part(heat, explanation, (x1, y1, x2, y2)), colormap, opacity)
    size = (max(round((x2 - x1) * scale), 1), max(round((y2 - y1) * scale), 1))
    picture = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    return _draw_shape(picture, explanation.detection, (x1, y1), scale, 2)


def _part(
    heat: NDArray[np.float32], explanation: Explanation, window: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """A window, in the pixels of an explanation's image, of a map drawn as large or smaller."""
    x1, y1, x2, y2 = window
    height, width = explanation.image.shape[:2]
    if heat.shape == (height, width):
        return heat[y1:y2, x1:x2]
    down, across = heat.shape[0] / height, heat.shape[1] / width
    place = np.array([[across, 0, (x1 + 0.5) * across - 0.5], [0, down, (y1 + 0.5) * down - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(heat, place, (x2 - x1, y2 - y1), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(part, np.float32)


def _zoom_upright(picture: Picture, corners: NDArray[np.float32], side: int) -> Picture:
    """The square of three times a rotated box's longer side around it, turned so that the box stands upright."""
    along, across = corners[0] - corners[3], corners[0] - corners[1]
    longer = max(float(np.linalg.norm(along)), float(np.linalg.norm(across)), 16.0)
    x, y = corners.mean(0).tolist()
    turn = cv2.getRotationMatrix2D((x, y), math.degrees(math.atan2(along[1], along[0])), side / (3 * longer))
    turn[:, 2] += side / 2 - np.array([x, y])
    turned = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    upright = corners @ turn[:, :2].T + turn[:, 2]
    return _draw_rectangle(turned, np.concatenate([upright.min(0), upright.max(0)]), BOX_COLOUR, 2)


def rotated_corners(detection: Detection) -> NDArray[np.float32] | None:
    """The corners (4, 2) of a rotated box; None for an upright one and for a mask."""
    polygons = detection.polygons or ()
    return polygons[0] if len(polygons) == 1 and len(polygons[0]) == 4 else None


def zoom_window(explanation: Explanation) -> tuple[int, int, int, int]:
    """The square of three times the box's longer side (at least 48 pixels) around it, cut to the image."""
    height, width = explanation.image.shape[:2]
    x1, y1, x2, y2 = explanation.detection.xyxy.tolist()
    half = max(1.5 * max(abs(x2 - x1), abs(y2 - y1)), 24)
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = max(math.floor(centre_x - half), 0), max(math.floor(centre_y - half), 0)
    right, bottom = min(math.ceil(centre_x + half), width), min(math.ceil(centre_y + half), height)
    return min(left, width - 1), min(top, height - 1), max(right, 1), max(bottom, 1)


def is_small(explanation: Explanation) -> bool:
    """Whether the box is so small that it needs a zoomed view."""
    height, width = explanation.image.shape[:2]
    x1, y1, x2, y2 = explanation.detection.xyxy.tolist()
    return bool(abs((x2 - x1) * (y2 - y1)) < SMALL * width * height)


def panel(result: ImageResult, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """One picture per image: the photograph, all its boxes, and each map with its caption; small boxes also zoomed."""
    drawn, shown = reduced(result), result.explanations[:MOST_MAPS]
    tiles: list[tuple[str, str, Picture]] = [("image", "", drawn.image)]
    boxed = drawn.image.copy()
    for detection in drawn.detections:
        boxed = _draw_box(boxed, detection, detection.caption)
    count = len(result.detections)
    tiles.append((f"{count} detection{'' if count == 1 else 's'}", "", boxed))
    for explanation, small in zip(shown, drawn, strict=False):
        title = explanation.detection.caption
        tiles.append((title, _subtitle(explanation), overlay(small, colormap, opacity)))
        if is_small(explanation):
            tiles.append((f"{title}, zoomed", "", zoom(explanation, colormap, opacity)))
    columns = min(len(tiles), 4)
    rows = math.ceil(len(tiles) / columns)
    height, width = result.image.shape[:2]
    tile_width = 4.2
    tile_height = tile_width * min(max(height / width, 0.4), 1.6) + 0.62
    figure = Figure(figsize=(columns * tile_width, rows * tile_height + 0.9), dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, subtitle, picture) in zip(grid.flat, tiles, strict=False):
        _tile(axes, title, subtitle, picture)
    figure.subplots_adjust(
        0.01, 0.9 / (rows * tile_height + 0.9), 0.99, 1 - 0.5 / (rows * tile_height + 0.9), 0.04, 0.24
    )
    _colour_bar(figure, colormap, rows * tile_height + 0.9, len(result.explanations) - len(shown))
    figure.savefig(buffer := BytesIO(), format="raw")
    pixels = np.frombuffer(buffer.getvalue(), np.uint8).reshape(*canvas.get_width_height()[::-1], 4)
    return np.ascontiguousarray(pixels[..., :3])


def write_image(path: str | Path, picture: Picture) -> None:
    """Write an RGB picture, its format taken from the suffix.

    Raises:
        UsageError: no format has that suffix.
        InputError: the file cannot be written.
    """
    path = locate(path)
    try:
        written, data = cv2.imencode(path.suffix, picture[..., ::-1])
    except cv2.error as error:
        raise UsageError(f"{path}: no picture format ends in {path.suffix!r}; use .png or .jpg") from error
    if not written:
        raise InputError(f"{path}: the picture could not be encoded")
    write_whole(path, lambda file: file.write(data.tobytes()))


def _subtitle(explanation: Explanation) -> str:
    layers = explanation.layers
    where = ", ".join(layers) if len(layers) <= 3 else f"{layers[0]} .. {layers[-1]} ({len(layers)} layers)"
    head = f"{explanation.method}, target {explanation.target}, {where}"
    if explanation.status == "no_signal":
        return f"{head}\nNO SIGNAL: no map to show"
    if explanation.receipt is not None:
        return f"{head}\n{'' if explanation.receipt.supported else 'UNSUPPORTED: '}{explanation.receipt.brief}"
    drawn = ", drawn smoothed" if is_pixelwise(explanation) else ""
    return f"{head}\n{METHODS[explanation.method].label}; peak {explanation.heatmap.peak:.3g}{drawn}"


def _tile(axes: Axes, title: str, subtitle: str, picture: Picture) -> None:
    axes.imshow(picture, interpolation="antialiased")
    font = FontProperties(fname=font_file(title), size=11)
    axes.set_title(_plain(title), fontproperties=font, loc="left", pad=3 if not subtitle else 23)
    if subtitle:
        font = FontProperties(fname=font_file(subtitle), size=6.8)
        axes.text(
            0, 1.012, _plain(subtitle), transform=axes.transAxes, fontproperties=font, va="bottom", color="#444444"
        )


def _colour_bar(figure: Figure, colormap: str, inches: float, hidden: int) -> None:
    axes = figure.add_axes((0.3, 0.42 / inches, 0.4, 0.16 / inches))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colormap, extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    left_out = f"; {hidden} less confident detections are not shown" if hidden > 0 else ""
    axes.set_xlabel(f"share of each map's own peak{left_out}", fontsize=8)
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor="#888888", linewidth=0.6))


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: a dollar sign would start a formula."""
    return drawable(text).replace("$", r"\$")


@lru_cache(maxsize=512)
def font_file(text: str) -> str:
    """A font that has every character of ``text``: matplotlib's own, else the first one installed that does."""
    own = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    installed = sorted(font.fname for font in fontManager.ttflist if "LastResort" not in font.fname)  # it has them all
    for file in [own] if text.isascii() else [own, *installed]:
        if {ord(c) for c in text if c != "\n"} <= _characters(file):
            return file
    return own


def drawable(text: str) -> str:
    """``text`` with a hollow square for each character that its font does not have."""
    known = _characters(font_file(text))
    return "".join(c if ord(c) in known or c == "\n" else "\N{WHITE SQUARE}" for c in text)


@lru_cache(maxsize=512)
def _characters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


def _draw_rectangle(picture: Picture, xyxy: NDArray[np.floating], colour: tuple[int, int, int], width: int) -> Picture:
    x1, y1, x2, y2 = (round(float(v)) for v in xyxy)
    picture = np.ascontiguousarray(picture)
    if width > 1:  # a dark rim, so that the line shows on anything
        cv2.rectangle(picture, (x1, y1), (x2, y2), (0, 0, 0), width + 2)
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, width)
    return picture


def _draw_shape(
    picture: Picture, detection: Detection, origin: tuple[float, float], scale: float, line: int
) -> Picture:
    """Draw a detection's box (or its corners, where rotated), mask outlines and keypoints, moved and scaled."""
    polygons = [np.rint((p - origin) * scale).astype(np.int32) for p in detection.polygons or ()]
    if rotated_corners(detection) is None:
        picture = _draw_rectangle(picture, (detection.xyxy - np.tile(origin, 2)) * scale, BOX_COLOUR, line)
    picture = np.ascontiguousarray(picture)
    cv2.polylines(picture, polygons, True, BOX_COLOUR, line, cv2.LINE_AA)
    for x, y, *visible in () if detection.keypoints is None else detection.keypoints:
        if not visible or visible[0] >= 0.5:
            centre = round(float(x - origin[0]) * scale), round(float(y - origin[1]) * scale)
            cv2.circle(picture, centre, 2 * line, BOX_COLOUR, -1, cv2.LINE_AA)
    return picture


def _draw_box(picture: Picture, detection: Detection, text: str) -> Picture:
    """Draw a detection and its caption into a copy of ``picture``."""
    height, width = picture.shape[:2]
    line = max(round(min(height, width) / 320), 1)
    picture = picture.copy()
    if detection.asked is not None:
        picture = _draw_rectangle(picture, detection.asked, ASKED_COLOUR, line)
    picture = _draw_shape(picture, detection, (0, 0), 1, line)
    font = ImageFont.truetype(font_file(text), max(round(min(height, width) / 34), 9))
    text = drawable(text)
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    _, _, text_width, text_height = pen.textbbox((0, 0), text, font=font)
    left = min(max(float(detection.xyxy[0]), 0), max(width - text_width - 4, 0))
    above = float(detection.xyxy[1]) - text_height - 5
    top = above if above >= 0 else min(max(float(detection.xyxy[1]), 0), max(height - text_height - 4, 0))
    pen.rectangle((left, top, left + text_width + 4, top + text_height + 4), fill=(0, 0, 0))
    pen.text((left + 2, top + 1), text, font=font, fill=BOX_COLOUR)
    return np.array(canvas, np.uint8)
