"""Options and configuration files from strangers: one line and exit code 2, before anything is done."""

import matplotlib
import pytest

import detcam.cli
from detcam import Explainer
from detcam.adapters import load
from detcam.commands.checks import check_inputs
from detcam.demo import WEIGHTS
from hostile import configuration_inputs
from hostile.judging import run_command

pytestmark = pytest.mark.hostile


@pytest.fixture(autouse=True, scope="module")
def _folders_of_matplotlib():
    """matplotlib makes folders of its own, once in a process's life."""
    matplotlib.get_configdir()
    matplotlib.get_cachedir()


@pytest.fixture
def stopped(monkeypatch):
    """Commands that stop where their work would begin: all that is asked about comes before."""
    monkeypatch.setattr(detcam.cli, "_action", lambda command: lambda config, stdout: 0)


def run(words, out):
    return run_command(*words)


FAMILIES = {
    "words": configuration_inputs.words_of_options,
    "files, first part": lambda seed: list(configuration_inputs.files_of_options(seed))[::2],
    "files, second part": lambda seed: list(configuration_inputs.files_of_options(seed))[1::2],
    "broken": configuration_inputs.broken_files,
    "contradictions": lambda seed: configuration_inputs.contradictions(),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("stopped")
def test_configurations(family, judge, seed):
    judge("configurations", FAMILIES[family](seed), run, codes=(0, 2, 3))


def test_values_in_python(judge, seed):
    def ask(made, out):
        config, values = made
        check_inputs(config(**values))

    judge("configurations", configuration_inputs.values_in_python(seed), ask)


def test_calls_in_python(judge, seed):
    model = load(WEIGHTS)

    def ask(made, out):
        _, values = made
        Explainer(model, **values)

    judge("configurations", configuration_inputs.calls_in_python(seed), ask)
