"""With nothing set and a home of its own, detcam starts no process, looks no name up, and leaves other files alone."""

import ast
import socket
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import detcam
from detcam.alone import alone
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from support.images import SCENE_WITH_TWO_ALIKE
from support.offline import run_apart

COMMANDS = """
from detcam.cli import main
told = [main(command) for command in {commands!r}]
"""


@pytest.fixture
def labelled(tmp_path):
    """A YOLO set of two images, one of them damaged."""
    images, labels = tmp_path / "set" / "images" / "val", tmp_path / "set" / "labels" / "val"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    Image.fromarray(render(make_scene(SCENE_WITH_TWO_ALIKE))).save(images / "a.png")
    (images / "b.png").write_bytes(b"no image at all")
    for name in "ab":
        (labels / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    names = detcam.load(WEIGHTS).names
    data = tmp_path / "set" / "data.yaml"
    data.write_text(f"path: {tmp_path / 'set'}\ntrain: images/val\nval: images/val\nnames: {list(names.values())}\n")
    return data


def test_commands_stay_at_home(tmp_path, labelled):
    weights = ["--weights", str(WEIGHTS)]
    commands = [
        ["layers", *weights],
        ["explain", str(labelled), str(labelled.parent), *weights, "--method", "box", "--out", "run"],
        ["explain", str(labelled), *weights, "--method", "box", "--save", "none", "--out", "run", "--json"],
        ["export", "run", "--to", "csv", "--out", "table"],
    ]
    commands[2][-2] = "run2"
    ran = run_apart(tmp_path, COMMANDS.format(commands=commands))
    assert ran == {"deeds": [], "told": [0, 1, 1, 0]}


STATE = """
import cv2, torch, numpy as np, warnings, PIL.Image
import ultralytics.utils
told = [str(value) for value in (
    bool(ultralytics.utils.ONLINE), len(asked) > 0, PIL.Image.open.__module__, cv2.imread.__module__,
    torch.save.__module__, torch.load.__module__, cv2.getNumThreads(), torch.get_num_threads(),
    np.get_printoptions()["linewidth"], sorted(map(str, set(warnings.filters))),
    sorted((name, value) for name, value in os.environ.items()
        if not name.startswith(("_RJEM", "TORCHINDUCTOR"))),  # polars' and torch's
    socket.getaddrinfo is stub, subprocess.Popen._execute_child is execute, torch.is_grad_enabled(),
)]
"""
HOST = """
import socket, subprocess
asked, execute = [], subprocess.Popen._execute_child
def stub(*arguments, **settings):
    asked.append(arguments)
    return []
socket.getaddrinfo = stub
"""
EXPLAINS = """
import detcam
quiet = len(asked)
detcam.explain({weights!r}, {image!r}, method="box")
assert len(asked) == quiet
"""


def test_who_shares_the_process_finds_it_as_ultralytics_alone_leaves_it(tmp_path, labelled):
    """Before or after, and as far as a network is asked for, which here answers."""
    explains = EXPLAINS.format(weights=str(WEIGHTS), image=str(labelled.parent / "images" / "val" / "a.png"))
    touch = "import torch, ultralytics.nn.tasks, torchvision, scipy.cluster.hierarchy, skimage.segmentation\n"
    without = run_apart(tmp_path, HOST + touch + STATE)["told"]
    assert without[:2] == ["True", "True"]
    assert run_apart(tmp_path, HOST + explains + touch + STATE)["told"] == without
    assert run_apart(tmp_path, HOST + touch + explains + STATE)["told"] == without


def test_an_import_is_refused_what_others_are_not():
    given = socket.getaddrinfo, subprocess.Popen._execute_child
    with alone():
        with pytest.raises(OSError, match="no name looked up"):
            socket.getaddrinfo("localhost", 80)
        with alone(), pytest.raises(OSError, match="no process"):
            subprocess.run(["true"], check=True)
        with pytest.raises(OSError, match="no process"):
            subprocess.run(["true"], check=True)
    assert given == (socket.getaddrinfo, subprocess.Popen._execute_child)


def test_all_that_asks_is_imported_alone():
    """Ultralytics and matplotlib's fonts, wherever the package imports them; its demo's scripts are run by hand."""
    for path in Path(detcam.__file__).parent.rglob("*.py"):
        if path.parent.name == "demo":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        held = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.With) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            asking = [name for name in names if name.startswith(("ultralytics", "matplotlib.f", "matplotlib.pyplot"))]
            assert not asking or id(node) in held, f"{path}:{node.lineno}"
