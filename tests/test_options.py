"""Options are checked before torch is imported and weights are read."""

import inspect
import re
import subprocess
import sys

import pytest

import detcam
from detcam.config import EvaluateConfig, ExplainConfig, PlantConfig, ReviewConfig
from detcam.explainer import ExplainerOptions
from detcam.methods import METHODS
from detcam.options import FUSION_NAMES, METHOD_NAMES, TARGET_NAMES
from detcam.targets import TARGETS, find_target
from detcam.tensors.fusion import FUSIONS

WRONG = [
    ({"method": "nonsense"}, "no method 'nonsense'; known: auto, cam"),
    ({"method": "grad-cam"}, "no method 'grad-cam'; did you mean 'gradcam'"),
    ({"target": "klass"}, "no target 'klass'; did you mean 'class'"),
    ({"target": "keypoint:five"}, "a keypoint is named keypoint:5"),
    ({"fusion": "most"}, "no fusion 'most'; known: sum, mean, max"),
    ({"smoothing": "blur"}, "no smoothing 'blur'; known: aug, eigen, noise"),
    ({"budget": 0}, "budget must be a whole number, at least 1, got 0"),
    ({"conf": 1.5}, r"conf must lie in \[0, 1\], got 1.5"),
    ({"iou": -0.1}, r"iou must lie in \[0, 1\], got -0.1"),
    ({"max_det": 0}, "max_det must be a whole number, at least 1, got 0"),
    ({"batch": 0}, "batch must be a whole number, at least 1, got 0"),
    ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
    ({"detection": [-1]}, "detections are whole numbers counted from 0"),
    ({"box": [1, 2, 3, 4]}, "a class its box: give both"),
    ({"class_name": "kite"}, "a box to explain needs its class"),
    ({"box": [5, 2, 3, 4], "class_name": "kite"}, "box must be x1,y1,x2,y2"),
    ({"box": [1, 2, 3], "class_name": "kite"}, "box must be x1,y1,x2,y2"),
    ({"box": [1, 2, 3, 4], "class_name": "kite", "detection": 0}, "give one of the two"),
    ({"device": "banana"}, "device 'banana' cannot be used here"),
    ({"device": "cuda:nine"}, "device 'cuda:nine' cannot be used here"),
    ({"device": "-1"}, "device '-1' cannot be used here"),
    ({"device": "0,1"}, "device '0,1' cannot be used here"),
    ({"imgsz": 0}, r"imgsz must be one or two whole numbers of pixels, got \[?0"),
    ({"imgsz": -5}, r"imgsz must be one or two whole numbers of pixels, got \[?-5"),
    ({"imgsz": [64, 64, 64]}, r"imgsz must be one or two whole numbers of pixels, got \[64, 64, 64\]"),
    ({"half": True}, "half precision needs a CUDA device, got 'cpu'; leave half out"),
    ({"half": True, "device": "cpu"}, "half precision needs a CUDA device, got 'cpu'; leave half out"),
]
"""What is wrong by itself."""
UNFIT = [
    ({"budget": 9, "method": "box"}, "'box' takes a fixed number of forward passes"),
    ({"method": "box", "layers": "neck"}, "'box' works on the image, without layers"),
    ({"method": "drise", "target": "left"}, "'drise' scores whole detections"),
    ({"method": "effect", "smoothing": "aug"}, "smoothing is for methods at layers"),
    ({"method": "gradcam", "smoothing": "aug", "target": "keypoint:3"}, "cannot be averaged over flipped images"),
]
"""What does not fit together."""
ONLY_PYTHON = [
    ({"conf": "high"}, "conf must lie in"),
    ({"classes": []}, "classes is empty"),
    ({"layers": [], "method": "gradcam"}, "no layer was named"),
    ({"escalation": ["layercam"]}, "'layercam' works at layers and cannot take over"),
]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file that nobody may read."""
    path = tmp_path / "huge.pt"
    path.write_bytes(b"not to be read")

    def refuse(*_args, **_settings):
        raise AssertionError("the weights were read")

    monkeypatch.setattr("detcam.adapters.weights.read_checkpoint", refuse)
    monkeypatch.setattr("detcam.adapters.yolov5_weights.is_original_checkpoint", refuse)
    return path


@pytest.mark.parametrize(("options", "message"), [*WRONG, *UNFIT, *ONLY_PYTHON])
def test_python_reads_no_weights_for_a_wrong_option(weights, options, message):
    with pytest.raises(detcam.UsageError, match=message):
        detcam.Explainer(weights, **options)
    with pytest.raises(detcam.UsageError, match=message):
        detcam.explain(weights, "gone.jpg", **options)


def test_the_weights_nobody_may_read_are_read_where_options_are_right(weights):
    with pytest.raises(AssertionError, match="the weights were read"):
        detcam.Explainer(weights, "gradcam")


def arguments(options):
    """Options as the command line has them."""
    for name, value in options.items():
        flag = {"class_name": "class"}.get(name, name).replace("_", "-")
        if value is True:
            yield f"--{flag}"
            continue
        yield f"--{flag}={','.join(map(str, value)) if isinstance(value, list) else value}"


def test_the_command_line_refuses_a_wrong_option_without_importing_torch():
    script = (
        "import sys\nfrom detcam.cli import main\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    print(main(['explain', 'x.jpg', '--weights', 'huge.pt', *line.split()]), 'torch' in sys.modules)\n"
    )
    wrong = [*WRONG, *UNFIT]
    lines = "\n".join(" ".join(arguments(options)) for options, _ in wrong)
    made = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == ["2 False"] * len(wrong)
    told = made.stderr.splitlines()
    assert len(told) == len(wrong)
    for line, (_, message) in zip(told, wrong, strict=True):
        assert re.match(f"detcam explain: .*{message}", line)


@pytest.mark.parametrize(("options", "message"), UNFIT)
def test_the_command_line_reads_no_weights_for_options_that_do_not_fit(weights, options, message, tmp_path, capsys):
    from detcam.cli import main

    assert main(["explain", "x.jpg", f"--weights={weights}", f"--out={tmp_path / 'run'}", *arguments(options)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_commands_refuse_names_and_thresholds_as_well():
    for config in (EvaluateConfig, PlantConfig):
        assert config(methods="layercam@neck,guided:64").methods
        with pytest.raises(detcam.UsageError, match="no method 'gradkam'"):
            config(methods=["box", "gradkam@neck:3"])
    with pytest.raises(detcam.UsageError, match="no method 'gradkam'"):
        ReviewConfig(method="gradkam")
    for config in (EvaluateConfig, ReviewConfig, ExplainConfig):
        with pytest.raises(detcam.UsageError, match="conf must lie"):
            config(conf=2)


def test_names_are_those_of_the_things_they_name(doors):
    assert set(METHOD_NAMES) == METHODS.builtin
    assert len(METHOD_NAMES) == len(METHODS.builtin)
    assert set(TARGET_NAMES) == TARGETS.builtin
    assert set(FUSION_NAMES) == set(FUSIONS)
    detcam.register_method("mine", lambda subject: subject.image[:1])
    detcam.register_target("mine", lambda raw, index, detection: raw.logits[index, 0, 0])
    assert ExplainConfig(method="mine", target="mine").method == "mine"


def test_names_of_our_own_load_no_package_of_others(monkeypatch, doors):
    def refuse(**_group):
        raise AssertionError("entry points were read")

    monkeypatch.setattr("detcam.registry.entry_points", refuse)
    monkeypatch.setattr(METHODS, "_complete", False)
    monkeypatch.setattr(TARGETS, "_complete", False)
    assert ExplainConfig(method="gradcam", target="contrast:kite").fusion == "sum"
    assert find_target("left", {}) is TARGETS["left"]
    with pytest.raises(AssertionError, match="were read"):
        ExplainConfig(method="theirs")


def test_typed_options_are_the_explainers():
    parameters = list(inspect.signature(detcam.Explainer).parameters.values())[1:]
    typed = {name: hint.__forward_arg__ for name, hint in ExplainerOptions.__annotations__.items()}
    assert typed == {one.name: one.annotation for one in parameters}
    assert list(typed) == [one.name for one in parameters]
    assert not ExplainerOptions.__required_keys__
