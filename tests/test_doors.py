"""Methods, targets and adapters from outside: given as they are, registered, or brought by another package."""

import logging
import subprocess
import sys
from functools import partial

import numpy as np
import polars
import pytest
import torch
from PIL import Image

import detcam
from detcam import targets
from detcam.adapters import ADAPTERS
from detcam.cli import main
from detcam.data import DATA_FORMATS
from detcam.demo import WEIGHTS
from detcam.drawing.words import method_of
from detcam.methods import METHODS, cam
from detcam.targets import TARGETS
from detcam.types import Explanation
from support.fake_detector import FakeDetector

IMAGE = np.full((4, 4, 3), 255, np.uint8)


def ramp(subject):
    """A map that grows from left to right, times each detection's number.

    Nothing of this line is the label.
    """
    row = torch.arange(4.0).expand(4, 4)
    return torch.stack([row * (k + 1) for k in range(len(subject.boxes))])


def twice(raw, index, detection):
    return 2 * targets.class_logit(raw, index, detection)


def explain(**choices) -> Explanation:
    return detcam.explain(FakeDetector(), IMAGE, **choices)[0]


def test_a_method_may_be_a_function():
    result = detcam.explain(FakeDetector(), IMAGE, method=ramp)
    for k, one in enumerate(result):
        assert (one.method, one.target, one.status) == ("ramp", "class", "ok")
        np.testing.assert_array_equal(one.heatmap.raw, np.arange(4.0) * np.full((4, 1), k + 1))
    assert len(result) > 1


def test_a_method_may_be_a_method_with_a_name_of_its_own():
    own = detcam.Method(lambda activations: activations[0], on="layer", name="first channel")
    one = explain(method=own)
    assert (one.method, one.layers) == ("first channel", ("features",))
    np.testing.assert_array_equal(one.heatmap.raw, np.ones((4, 4)))
    assert method_of(one) == "first channel: not a registered method, so what its maps mean is not known"


def test_what_a_function_without_a_name_is_called():
    assert explain(method=lambda subject: ramp(subject)).method == "<lambda>"
    assert explain(method=partial(ramp)).method == "partial"


@pytest.mark.parametrize("given", [METHODS["gradcam"], cam.gradcam], ids=["method", "its function"])
def test_detcams_own_methods_keep_their_names(given):
    made, known = explain(method=given), explain(method="gradcam")
    assert (made.method, made.layers) == ("gradcam", ("features",))
    np.testing.assert_array_equal(made.heatmap.raw, known.heatmap.raw)


def test_a_registered_method_has_its_name_and_label(doors):
    detcam.register_method("ramp-2", ramp)
    for one in (explain(method="ramp-2"), explain(method=ramp)):
        assert method_of(one) == "ramp-2: A map that grows from left to right, times each detection's number."
        np.testing.assert_array_equal(one.heatmap.raw, np.arange(4.0) * np.ones((4, 1)))
    assert list(METHODS)[-1] == "ramp-2"


def test_a_registered_method_can_conclude(demo_detector, scene_image, doors):
    detcam.register_method("again", detcam.Method(METHODS["box"].function, models="any", concludes=True))
    one = detcam.explain(demo_detector, scene_image, method="again", detection=0)[0]
    assert one.receipt is not None


def test_an_unregistered_method_can_conclude_and_be_verified(demo_detector, scene_image):
    own = detcam.Method(METHODS["box"].function, concludes=True, name="mine")
    plain = detcam.Method(METHODS["box"].function, name="mine")
    assert detcam.explain(demo_detector, scene_image, method=own, detection=0)[0].receipt is not None
    assert detcam.explain(demo_detector, scene_image, method=plain, detection=0)[0].receipt is None
    checked = detcam.Explainer(demo_detector, plain, target=twice, detection=0, verify=True, escalation=[])
    one = checked(scene_image)[0][0]
    assert (one.method, one.target) == ("mine", "twice")
    assert one.receipt is not None


def test_a_method_that_needs_a_white_box_refuses_a_black_one():
    black = detcam.BlackBox(lambda images: [([[0, 0, 2, 2]], [[0.9]])] * len(images), ["thing"])
    assert detcam.explain(black, IMAGE, method=ramp)[0].method == "ramp"
    with pytest.raises(detcam.UsageError, match="'ramp' looks inside the model"):
        detcam.Explainer(black, detcam.Method(ramp))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "a method is a name, a detcam.Method or a function of a detcam.Subject, got 3"),
        (detcam.Method(ramp, name="gradcam"), "there is already a method 'gradcam'; give yours another name"),
        (detcam.Method(ramp, name="auto"), "there is already a method 'auto'"),
    ],
)
def test_what_is_no_method_is_refused_before_weights_are_loaded(given, message):
    with pytest.raises(detcam.UsageError, match=message):
        detcam.explain("missing.pt", IMAGE, method=given)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (torch.zeros(4, 4), r"a tensor \(4, 4\)"),
        (torch.zeros(3, 4, 4), r"a tensor \(3, 4, 4\)"),
        (np.zeros((1, 4, 4)), "a ndarray"),
    ],
)
def test_a_method_that_gives_no_maps_is_told_so(made, what):
    own = detcam.Method(lambda subject: made, name="odd")
    with pytest.raises(detcam.UsageError, match=rf"method 'odd' has to give maps \(1, h, w\).* and gave {what}"):
        explain(method=own, detection=0)


def test_a_target_may_be_a_function():
    own, known = explain(method="hirescam", target=twice), explain(method="hirescam")
    assert (own.target, own.status) == ("twice", "ok")
    np.testing.assert_array_equal(own.heatmap.raw, 2 * known.heatmap.raw)


def test_image_methods_ask_a_function_too(demo_detector, scene_image):
    for method in ("saliency", "effect"):
        own = detcam.explain(demo_detector, scene_image, method=method, target=twice, detection=0)[0]
        assert (own.method, own.target) == (method, "twice")
        assert own.status != "no_signal"
    known = detcam.explain(demo_detector, scene_image, method="saliency", detection=0)[0]
    own = detcam.explain(demo_detector, scene_image, method="saliency", target=twice, detection=0)[0]
    np.testing.assert_allclose(own.heatmap.raw, 2 * known.heatmap.raw, rtol=1e-4)


def test_detcams_own_targets_keep_their_names():
    assert explain(method="hirescam", target=targets.iou).target == "iou"
    assert explain(method="hirescam", target=TARGETS["left"]).target == "left"


def test_a_registered_target_has_its_name(doors):
    detcam.register_target("double", twice)
    known = explain(method="hirescam")
    for target in ("double", twice):
        own = explain(method="hirescam", target=target)
        assert own.target == "double"
        np.testing.assert_array_equal(own.heatmap.raw, 2 * known.heatmap.raw)


@pytest.mark.parametrize("registered", [False, True])
def test_a_target_that_gives_no_scalar_is_told_so(registered, doors):
    def logits(raw, index, detection):
        return raw.logits[index, detection.anchor]

    if registered:
        detcam.register_target("logits", logits)
    with pytest.raises(
        detcam.UsageError, match=r"target 'logits' has to give a scalar tensor, and gave a tensor \(2,\)"
    ):
        explain(method="hirescam", target="logits" if registered else logits)
    with pytest.raises(detcam.UsageError, match="and gave a float"):
        explain(method="hirescam", target=lambda raw, index, detection: 1.0)


def test_what_is_no_target_is_refused_before_weights_are_loaded(doors):
    def combined(raw, index, detection):
        return twice(raw, index, detection)

    for target, message in (
        (3, "a target is a name or a function .* got 3"),
        (combined, "there is already a target 'combined'; give yours another name"),
        ("clas", "no target 'clas'; did you mean 'class'"),
    ):
        with pytest.raises(detcam.UsageError, match=message):
            detcam.explain("missing.pt", IMAGE, target=target)
    detcam.register_target("double", twice)
    for target, name in (("double", "double"), (lambda raw, index, detection: 0, "<lambda>")):
        with pytest.raises(detcam.UsageError, match=f"what target '{name}' is in a flipped image is not known"):
            detcam.explain("missing.pt", IMAGE, method="layercam", target=target, smoothing="aug")
    with pytest.raises(detcam.UsageError, match=r"'guided' scores whole detections .* not target 'double'"):
        detcam.explain("missing.pt", IMAGE, method="guided", target=twice)


@pytest.mark.parametrize(
    "choices",
    [{"fusion": "most"}, {"budget": 0}, {"budget": 9, "method": "box"}, {"method": "box", "layers": "neck"}],
    ids=str,
)
def test_choices_are_checked_before_weights_are_loaded(choices):
    with pytest.raises(detcam.UsageError):
        detcam.Explainer("missing.pt", **choices)


@pytest.mark.parametrize(
    ("register", "taken"),
    [
        (detcam.register_method, ["auto", "effect"]),
        (detcam.register_target, ["class", "combined", "contrast", "keypoint"]),
        (detcam.register_adapter, []),
        (detcam.register_data_format, []),
    ],
)
def test_names_that_are_taken_or_cannot_be_typed_are_refused(register, taken, doors):
    register("toy", ramp)
    for name in [*taken, "toy"]:
        with pytest.raises(detcam.UsageError, match=f"there is already a[a-z ]+ '{name}'; give yours another name"):
            register(name, ramp)
    for name in ("", "a,b", "a:b", "a@b", "a b", 3):
        with pytest.raises(detcam.UsageError, match="is made of letters, digits"):
            register(name, ramp)
    with pytest.raises(detcam.UsageError, match="got 3"):
        register("three", 3)


class Toy:
    """Weights that only a registered adapter can load."""


def test_a_registered_adapter_is_asked_first(doors):
    asked = []

    def loader(weights, **settings):
        asked.append((weights, settings))
        return FakeDetector() if isinstance(weights, Toy) else None

    detcam.register_adapter("toy", loader)
    toy = Toy()
    made = detcam.load(toy, half=False, imgsz=64, trust_weights=True)
    assert isinstance(made, FakeDetector)
    assert asked == [(toy, {"device": None, "imgsz": 64, "half": False, "trust_weights": True})]
    assert detcam.explain(toy, IMAGE, method="hirescam")[0].status == "ok"
    assert not isinstance(detcam.load(WEIGHTS), FakeDetector)
    with pytest.raises(AssertionError):  # the toy cannot have it: it is asked
        detcam.load(toy, nms=True)
    count = len(asked)
    assert detcam.load(made) is made  # what is loaded is not
    assert len(asked) == count


def test_an_adapter_that_fails_says_so(doors):
    def loader(weights, **settings):
        if isinstance(weights, Toy):
            return object()
        if weights == "own.toy":
            raise detcam.UsageError("imgsz is fixed")
        return 1 / 0

    detcam.register_adapter("toy", loader)
    with pytest.raises(
        detcam.WeightsError,
        match=r"adapter 'toy' gave a object, which is no detector: it has no names, device, differentiable, adjusted, "
        r"layers, resolve, prepare, letterbox, forward, decode; see detcam.DetectorAdapter$",
    ):
        detcam.load(Toy())
    with pytest.raises(detcam.WeightsError, match="adapter 'toy' failed on these weights: ZeroDivisionError"):
        detcam.load(WEIGHTS)
    with pytest.raises(detcam.UsageError, match=r"^imgsz is fixed$"):
        detcam.load("own.toy")


def test_an_adapter_whose_functions_take_other_arguments_says_which(doors):
    class Old(FakeDetector):
        device = None

        def decode(self, raw, letterboxes, *, conf, iou, classes, max_det):
            return []

        def adjusted(self, *, device=None):
            return self

    detcam.register_adapter("toy", lambda weights, **settings: Old())
    expected = (
        r"adapter 'toy' gave a Old, which is no detector: its adjusted cannot be called as adjusted\(device=, imgsz=, "
        r"half=, nms=\); its decode cannot be called as decode\(raw, letterboxes, settings\); see detcam"
    )
    with pytest.raises(detcam.WeightsError, match=expected):
        detcam.load(Toy())


TOYS = """
import torch
import detcam

def method(subject):
    \"\"\"The box's own map.\"\"\"
    return torch.ones(len(subject.boxes), 4, 4)

def target(raw, index, detection):
    return raw.logits[index, detection.anchor, detection.class_id]

def adapter(weights, **settings):
    if str(weights).endswith(".toy"):
        return detcam.BlackBox(lambda images: [([[0, 0, 8, 8]], [[0.9]])] * len(images), ["toy"])
"""
POINTS = """
[detcam.methods]
toy = toys:method
gradcam = toys:method
lost = toys:nothing
absent = no_such_module:method
[detcam.targets]
toy = toys:target
[detcam.adapters]
toy = toys:adapter
"""


@pytest.fixture
def package(tmp_path, monkeypatch, doors):
    """An installed package that brings one of each, and three methods that cannot be used."""
    site = tmp_path / "site"
    info = site / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (site / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(site)
    for registry in (METHODS, TARGETS, ADAPTERS, DATA_FORMATS):
        registry._complete = False
    yield site
    sys.modules.pop("toys", None)


def test_entry_points_are_read_once_and_when_they_are_needed(package, caplog):
    with caplog.at_level(logging.WARNING, "detcam"):
        assert METHODS["gradcam"].function is cam.gradcam
        assert "toys" not in sys.modules
        assert METHODS["toy"].label == "The box's own map."
        assert METHODS["gradcam"].function is cam.gradcam
        assert "none" not in METHODS
        assert explain(method="hirescam", target="toy").target == "toy"
    assert [record.getMessage() for record in caplog.records] == [
        "method 'absent' of toys (no_such_module:method) is left out: "
        "ModuleNotFoundError: No module named 'no_such_module'",
        "method 'gradcam' of toys (toys:method) is left out: "
        "UsageError: there is already a method 'gradcam'; give yours another name",
        "method 'lost' of toys (toys:nothing) is left out: AttributeError: module 'toys' has no attribute 'nothing'",
    ]


def test_the_command_line_knows_what_packages_bring(package, tmp_path, capsys):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.toy").write_text("")
    given = [str(tmp_path / "a.png"), "--weights", str(tmp_path / "a.toy"), "--out", str(tmp_path / "run")]
    assert main(["explain", *given, "--method", "toy", "--target", "toy", "--save", "overlay"]) == 0
    row = polars.read_parquet(tmp_path / "run" / "detections.parquet").to_dicts()[0]
    assert (row["method"], row["target"], row["class_name"]) == ("toy", "toy", "toy")
    told = " ".join(capsys.readouterr().err.split())
    assert "detcam: method 'absent' of toys (no_such_module:method) is left out" in told
    assert main(["methods", "--json"]) == 0
    assert '"method": "toy"' in capsys.readouterr().out


def test_everything_a_user_touches_is_at_the_top():
    names = {"load", "explain", "Explainer", "register_method", "register_target", "register_adapter", "Method"}
    names |= {"register_data_format"}
    names |= {"Receipt", "Evidence", "Letterbox", "DetectorAdapter", "BlackBox", "RawOutput", "Subject", "Target"}
    assert names <= set(dir(detcam))
    assert dir(detcam) == sorted(detcam.__all__)
    for name in dir(detcam):
        assert getattr(detcam, name) is not None
    code = "import sys, detcam; dir(detcam); assert 'torch' not in sys.modules; detcam.Letterbox, detcam.Evidence"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tests_leave_the_registries_as_they_were():
    assert not {"toy", "double", "again", "ramp-2", "hidden-cells"} & {*METHODS, *TARGETS, *ADAPTERS, *DATA_FORMATS}
