"""Causes that are known: in the bundled detectors' drawn scenes, and planted in a copy of one's own weights."""
