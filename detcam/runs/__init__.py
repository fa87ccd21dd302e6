"""Run folders: written image by image, here or on Ray, and read again."""

from detcam.runs.reading import Failure, Row, Run, open_run

__all__ = ["Failure", "Row", "Run", "open_run"]
