"""What needs no torch does not import it, and is quick: wrong options of every command, help, and reading runs."""

import json
import resource
import subprocess
import sys

import pytest
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

from detcam.attribution.fit import check_fit
from detcam.demo import WEIGHTS
from detcam.export import WRITERS
from detcam.inputs import OFFICIAL_NAME
from detcam.methods import METHODS, Method, effect
from detcam.options import EXPORT_FORMATS
from detcam.runtime import DEVICE_KINDS
from support.exported_runs import explained, folder, reviewed  # noqa: F401  (fixtures, asked for by name)

BASE = "import numpy, jsonargparse"
"""What any command has to import, the parser of its options among it."""
REFUSE_TORCH = """
import sys
from importlib.machinery import PathFinder
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "ultralytics"):
            spec = PathFinder.find_spec(name, path)
            spec.loader = self  # Polars looks whether there is one, and does not import it
            return spec
    def create_module(self, spec):
        raise AssertionError(f"{spec.name} was imported")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Refuse())
from detcam.cli import main
"""
ALL_OF_THEM = """
import io, json
from contextlib import redirect_stderr, redirect_stdout
said = []
for arguments in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
    said.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(said))
"""
GIVEN = ("--weights", str(WEIGHTS))
HERE = ("explain", __file__, *GIVEN)  # no image, but a file: whether it is one is asked later
WRONG = [
    (["explian"], 2, "no command 'explian'; did you mean 'explain'"),
    ([*HERE, "--methd", "box"], 2, "no option --methd; did you mean '--method'"),
    ([*HERE, "--method", "gradkam"], 2, "no method 'gradkam'; did you mean 'gradcam'"),
    ([*HERE, "--target", "klass"], 2, "no target 'klass'; did you mean 'class'"),
    ([*HERE, "--target", "keypoint:nose"], 2, "a keypoint is named keypoint:5"),
    ([*HERE, "--layers", ""], 2, "no layer was named"),
    ([*HERE, "--layers", "model.4,model..6"], 2, "no layer 'model..6': a module path is names joined by dots"),
    ([*HERE, "--class", "kite"], 2, "a box to explain needs its class"),
    ([*HERE, "--classes", ","], 2, "classes is empty"),
    ([*HERE, "--save", "movie"], 2, "cannot save 'movie'"),
    ([*HERE, "--colormap", "infernal"], 2, "no colour map 'infernal'; did you mean 'inferno'"),
    ([*HERE, "--opacity", "2"], 2, "opacity must lie in [0, 1], got 2"),
    ([*HERE, "--engine", "rey"], 2, "no engine 'rey'; did you mean 'ray'"),
    ([*HERE, "--engine", "ray", "--out", "memory://run"], 2, "memory://run is the memory of one process"),
    ([*HERE, "--engine", "ray", "--half", "--device", "cpu"], 2, "half precision needs a CUDA device, got 'cpu'"),
    ([*HERE, "--device", "banana"], 2, "device 'banana' cannot be used here"),
    ([*HERE, "--imgsz", "abc"], 2, "--imgsz takes numbers separated by commas, got 'abc'"),
    ([*HERE, "--imgsz", "0"], 2, "imgsz must be one or two whole numbers of pixels, got [0]"),
    ([*HERE, "--half"], 2, "half precision needs a CUDA device"),
    ([*HERE, "--method", "effect", "--smoothing", "noise"], 2, "smoothing is for methods at layers"),
    (["explain", *GIVEN], 2, "nothing to explain: name an image"),
    (["explain", __file__], 2, "no weights: name a checkpoint"),
    (["explain", __file__, "--weights", "gone.pt"], 3, "no such weights file: gone.pt"),
    (["explain", __file__, "--weights", "gone.onnx"], 3, "no such weights file: gone.onnx"),
    (["explain", __file__, "--weights", "m.engine"], 3, "no such weights file: m.engine"),
    (["layers"], 2, "no weights"),
    (["layers", *GIVEN, "--imgsz", "-5"], 2, "imgsz must be one or two whole numbers of pixels, got [-5]"),
    (["bench", *GIVEN], 2, "one image is measured; 0 images were named"),
    (["bench", "gone.jpg", *GIVEN], 2, "one image is measured; gone.jpg: no such file or folder"),
    (["bench", __file__, *GIVEN, "--conf", "2"], 2, "conf must lie in [0, 1], got 2"),
    (["evaluate", *GIVEN], 2, "nothing to measure on"),
    (["evaluate", *GIVEN, "--data", "gone.yaml"], 2, "gone.yaml: no such file or folder"),
    (["evaluate", *GIVEN, "--data", __file__], 2, "not a labelled set; expected a COCO instances .json"),
    (["evaluate", *GIVEN, "--data", ".", "--methods", "box,guided:many"], 2, "the budget of 'guided:many' must be"),
    (["evaluate", *GIVEN, "--data", ".", "--methods", "guided:0"], 2, "budget must be a whole number, at least 1"),
    (["evaluate", *GIVEN, "--data", ".", "--methods", "box@neck"], 2, "'box' works on the image, without layers"),
    (["evaluate", *GIVEN, "--data", ".", "--limit", "0"], 2, "limit must be a whole number, at least 1, got 0"),
    (["evaluate", "--planted", "--kind", "nera"], 2, "no kind of cause 'nera'; did you mean 'near'"),
    (["evaluate", *GIVEN, "--data", ".", "--out", "memory://a"], 2, "an evaluation keeps its folder on this machine"),
    (["plant", *GIVEN], 2, "nothing to plant in"),
    (["plant", *GIVEN, "--data", "gone.json"], 2, "gone.json: no such file or folder"),
    (["plant", *GIVEN, "--data", ".", "--methods", "layercam@neck"], 2, "'layercam@neck': name layers with --layers"),
    (["plant", *GIVEN, "--data", ".", "--epochs", "0"], 2, "epochs must be a whole number, at least 1, got 0"),
    (["review", *GIVEN], 2, "nothing to review"),
    (["review", *GIVEN, "--data", "gone.json"], 2, "gone.json: no such file or folder"),
    (["review", *GIVEN, "--data", ".", "--images-dir", "."], 2, "images_dir='.' goes with a COCO .json"),
    (["review", *GIVEN, "--data", ".", "--map", "car"], 2, "--map takes SET:MODEL pairs"),
    (["review", *GIVEN, "--data", ".", "--against", "gone.pt"], 3, "no such weights file: gone.pt"),
    (["review", *GIVEN, "--data", ".", "--port", "99999"], 2, "port must be a whole number from 0 to 65535, got 99999"),
    (["report"], 2, "no run folder: name one"),
    (["report", "gone"], 2, "gone is no run folder: it has no run.json"),
    (["export", "gone", "--to", "coco"], 2, "gone is no run folder: it has no run.json"),
    (["export", "gone", "--to", "cocoa"], 2, "cannot export to 'cocoa'; did you mean 'coco'"),
    (["export", "gone"], 2, "name a run folder and a format"),
    (["run"], 2, "usage: detcam run CONFIG.yaml"),
    (["run", "gone.yaml"], 2, "gone.yaml: no such file"),
]


def detcam(*arguments, cwd=None):
    """A command in a process in which importing torch, torchvision or Ultralytics is an error."""
    command = [sys.executable, "-c", REFUSE_TORCH + "sys.exit(main(sys.argv[1:]))", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Exit code, standard output and error of every command in WRONG, by its place; all of one process."""
    here = tmp_path_factory.mktemp("here")
    given = json.dumps([arguments for arguments, *_ in WRONG])
    command = [sys.executable, "-c", REFUSE_TORCH + ALL_OF_THEM, given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    assert not list(here.iterdir())
    return json.loads(done.stdout)


@pytest.mark.parametrize("place", range(len(WRONG)), ids=lambda place: " ".join(WRONG[place][0])[-50:])
def test_what_is_wrong_is_said_in_one_line_without_torch(said, place):
    _, code, message = WRONG[place]
    found, out, err = said[place]
    assert (found, out) == (code, ""), err
    assert message in err
    assert err.count("\n") == 1


def test_torch_would_be_missed(tmp_path):
    (tmp_path / "a.jpg").touch()
    done = detcam("explain", "a.jpg", *GIVEN, cwd=tmp_path)
    assert "torch was imported" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help-all"], ["--version"], ["methods", "--all"]])
def test_pages_need_no_torch(arguments):
    done = detcam(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("to", ["coco", "csv", "relabel"])
def test_exports_need_no_torch(reviewed, to, tmp_path):  # noqa: F811
    done = detcam("export", reviewed, "--to", to, "--out", tmp_path / to)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / to).iterdir())


def test_counterfactuals_and_reports_need_no_torch(reviewed, tmp_path):  # noqa: F811
    for arguments in (["export", reviewed, "--to", "counterfactuals", "--out", tmp_path / "c"], ["report", reviewed]):
        done = detcam(*arguments)
        assert "was imported" not in done.stderr
        assert done.returncode in (0, 2), done.stderr  # this run may lack what a report needs


def cpu_seconds(*arguments):
    """What a process spends, the least of three: other work on the machine does not count, but slows its caches."""

    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    measured = []
    for _ in range(3):
        before = spent()
        subprocess.run([sys.executable, *map(str, arguments)], check=False, capture_output=True)
        measured.append(spent() - before)
    return min(measured)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["--help"], 3),
        ([*HERE, "--method", "gradkam"], 4),
        (["explain", __file__, "--weights", "gone.pt"], 4),
        (["review", *GIVEN, "--data", "gone.yaml"], 4),
        (["methods"], 5),
        (["export", "gone", "--to", "coco"], 4),
    ],
    ids=lambda given: str(given)[:60],
)
def test_processor_time_is_a_small_multiple_of_what_the_parser_takes(arguments, most):
    """Importing torch takes some 15 times what NumPy and jsonargparse take."""
    base, own = cpu_seconds("-c", BASE), cpu_seconds("-m", "detcam", *arguments)
    print(f"{' '.join(map(str, arguments))[:60]}: {own:.2f} s, {BASE}: {base:.2f} s")
    assert own < most * base


def test_an_export_takes_little_more_than_reading_its_tables(reviewed, tmp_path):  # noqa: F811
    base = cpu_seconds("-c", "import numpy, jsonargparse, polars, cv2, PIL.Image, fsspec, yaml")
    own = cpu_seconds("-m", "detcam", "export", reviewed, "--to", "csv", "--out", tmp_path / "csv")
    assert own < 4 * base


@pytest.mark.parametrize("name", sorted(METHODS.builtin))
def test_methods_that_are_named_are_there(name):
    """Their functions are imported late; so what a Method checks at once is checked here."""
    method = METHODS[name]
    made = Method(method.function, on=method.on)
    assert callable(made.function)
    assert made.function.__module__.startswith("detcam.methods.")
    assert method.asks in ("nothing", "class", "detection")
    assert method.models in ("white box", "pooling classifiers", "any")
    assert method.takes == made.takes
    check_fit(name, method, "class")


def test_constants_that_are_written_twice_agree():
    assert METHODS["effect"].budget == effect.IMAGE_BUDGET_PASSES
    assert set(EXPORT_FORMATS) == set(WRITERS)
    checkpoints = [name for name in GITHUB_ASSETS_NAMES if name.endswith(".pt")]
    assert len(checkpoints) > 100
    assert not [name for name in checkpoints if not OFFICIAL_NAME.fullmatch(name)]
    assert not [name for name in ("best.pt", "last.pt", "gone.pt", "mine.pt") if OFFICIAL_NAME.fullmatch(name)]


def test_kinds_of_device_are_torchs():
    import torch

    assert {torch.device(kind).type for kind in DEVICE_KINDS} == set(DEVICE_KINDS)
