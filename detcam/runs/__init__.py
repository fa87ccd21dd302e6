"""Run folders: written image by image, here or on Ray, and read again."""

from detcam.runs.schema import read_detections, read_heatmap

__all__ = ["read_detections", "read_heatmap"]
