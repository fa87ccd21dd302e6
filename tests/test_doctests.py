"""The examples in docstrings of pure functions say what they give."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    *(f"metrics.{name}" for name in ("correlation", "faithfulness", "localization", "recovery")),
    *(f"methods.{name}" for name in ("cam", "guided", "regions", "windows")),
    *(f"attribution.{name}" for name in ("evidence", "patches", "receipt", "sentence")),
    *(f"adapters.{name}" for name in ("answers", "decoding", "settings")),
    "filenames",
    "geometry",
    "options",
    "targets",
    "tensors.fusion",
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_examples_give_what_they_show(name):
    failed, tried = doctest.testmod(import_module(f"detcam.{name}"))
    assert not failed
    assert tried
