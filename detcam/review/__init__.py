"""Reviewing a detector on a labelled set: what it found, what it got wrong, and in which way."""

from detcam.review.api import run_review as run_review
from detcam.review.comparison import compare as compare
from detcam.review.result import ReviewResult as ReviewResult
