"""The examples in docstrings of pure functions say what they give."""

import doctest
from importlib import import_module

import pytest

MODULES = [*(f"metrics.{name}" for name in ("correlation", "faithfulness", "localization", "recovery")), "geometry"]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_examples_give_what_they_show(name):
    failed, tried = doctest.testmod(import_module(f"detcam.{name}"))
    assert not failed
    assert tried >= 2
