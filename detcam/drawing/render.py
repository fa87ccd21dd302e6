"""Pictures of explanations, each a new RGB uint8 array: the public names of :mod:`detcam.drawing`."""

from detcam.drawing.captions import captioned
from detcam.drawing.fonts import drawable, font_file
from detcam.drawing.heat import blend, colourmap, draw_contours, heat_of, is_pixelwise, shown_heat
from detcam.drawing.notebook import explanation_html, result_html
from detcam.drawing.overlays import overlay, together
from detcam.drawing.pages import pages, panel
from detcam.drawing.shapes import ASKED_COLOUR, BOX_COLOUR, EVIDENCE_COLOUR, rotated_corners
from detcam.drawing.writing import write_image
from detcam.drawing.zooms import is_small, zoom, zoom_window

__all__ = [
    "ASKED_COLOUR",
    "BOX_COLOUR",
    "EVIDENCE_COLOUR",
    "blend",
    "captioned",
    "colourmap",
    "draw_contours",
    "drawable",
    "explanation_html",
    "font_file",
    "heat_of",
    "is_pixelwise",
    "is_small",
    "overlay",
    "pages",
    "panel",
    "result_html",
    "rotated_corners",
    "shown_heat",
    "together",
    "write_image",
    "zoom",
    "zoom_window",
]
