"""Reviewing a detector on a labelled set: what it found, what it got wrong, and in which way."""
