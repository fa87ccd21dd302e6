"""The adapter against the vendor: the same detections, and a model left exactly as it was."""

import copy

import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import SIZE, make_scene, render
from detcam.errors import InputError, UsageError, WeightsError
from detcam.io.images import read_image
from support.comparison import paired
from support.data import real
from support.images import SCENE_WITH_TWO_ALIKE, photograph
from support.models import snapshot, spread_logits


def check_same_detections(explainer_or_detector, model, image, **settings):
    """Same count, class, confidence within 1e-3 and boxes within a pixel of ``predict()``; returns how many."""
    ours = detcam.Explainer(explainer_or_detector, "random", "neck", **settings)(image)[0].detections
    array = read_image(image)[..., ::-1]
    theirs = model.predict(array, verbose=False, device="cpu", **settings)[0].boxes
    assert len(ours) == len(theirs)
    for n, m in paired(ours, theirs.cls, theirs.conf, theirs.xyxy, within=1e-3):
        assert np.abs(ours[n].xyxy - theirs.xyxy[m].numpy()).max() <= 1
    return len(ours)


def test_detections_are_those_of_predict(demo_detector):
    model = YOLO(WEIGHTS)
    assert sum(check_same_detections(demo_detector, model, render(make_scene(seed))) for seed in range(40)) > 60


@pytest.mark.parametrize(
    "settings", [{"conf": 0.6}, {"conf": 0.01, "iou": 0.2}, {"max_det": 1}, {"classes": [0, 3]}, {"conf": 0.001}]
)
def test_detections_are_those_of_predict_with_other_settings(demo_detector, scene_image, settings):
    assert check_same_detections(demo_detector, YOLO(WEIGHTS), scene_image, **settings) > 0


def scenes_of(height, width):
    """An image of this size, tiled with a scene that is as large as fits."""
    side = min(height, width, SIZE)
    every = np.arange(side) * SIZE // side
    scene = render(make_scene(SCENE_WITH_TWO_ALIKE))[np.ix_(every, every)]
    return np.tile(scene, (-(-height // side), -(-width // side), 1))[:height, :width]


@pytest.mark.parametrize("shape", [(33, 500), (500, 33), (256, 256), (1080, 1920), (97, 101), (1, 1), (65, 159)])
@pytest.mark.parametrize("imgsz", [None, 320, [160, 352], [544, 1248]])
def test_detections_are_those_of_predict_at_any_shape(shape, imgsz):
    detector, image = detcam.load(WEIGHTS, imgsz=imgsz), scenes_of(*shape)
    extra = {} if imgsz is None else {"imgsz": imgsz}
    theirs = YOLO(WEIGHTS).predict(image[..., ::-1], verbose=False, conf=0.002, **extra)[0].boxes
    ours = detcam.Explainer(detector, "random", "neck", conf=0.002)(image)[0].detections
    assert len(ours) == len(theirs)
    assert (len(ours) > 0) == (shape != (1, 1))  # nothing is seen in a single pixel
    for n, m in paired(ours, theirs.cls, theirs.conf, theirs.xyxy, within=1e-5):
        assert np.abs(ours[n].xyxy - theirs.xyxy[m].numpy()).max() <= 1e-2


REAL = [("yolov8n.pt", "coco/images"), ("yolo26n.pt", "coco/images"), ("hogdetect.pt", "hog/val/images")]


@pytest.mark.parametrize(("weights", "folder"), REAL)
def test_detections_on_photographs_are_those_of_predict(weights, folder):
    images = sorted(real(folder).glob("*.jpg"))[:10]
    detector, model = detcam.load(real(f"weights/{weights}")), YOLO(real(f"weights/{weights}"))
    assert sum(check_same_detections(detector, model, image) for image in images) > 5


@pytest.fixture
def end_to_end():
    """A YOLO26 with random weights whose two branches differ."""
    torch.manual_seed(0)
    model = YOLO("yolo26n.yaml", task="detect", verbose=False)
    spread_logits(model.model, photograph(256, 256, seed=1))
    return model


@pytest.mark.parametrize("nms", [None, False, True])
def test_the_branch_that_answers_is_the_one_explained(end_to_end, nms):
    settings = {"conf": 1e-3, "max_det": 20}
    image = photograph(256, 256, seed=1)
    ours = detcam.Explainer(detcam.load(end_to_end, imgsz=256, nms=nms), layers="neck", **settings, method="layercam")(
        image
    )[0]
    fresh = YOLO("yolo26n.yaml", task="detect", verbose=False)
    fresh.model.load_state_dict(end_to_end.model.state_dict())
    old = "end2end" in DEFAULT_CFG_DICT  # what releases before `nms` called it, the other way round
    extra = {} if nms is None else {"end2end": not nms} if old else {"nms": nms}
    theirs = fresh.predict(image[..., ::-1], verbose=False, imgsz=256, **settings, **extra)[0].boxes
    assert paired(ours.detections, theirs.cls, theirs.conf, theirs.xyxy, within=1e-3)
    assert all(e.status == "ok" for e in ours)


def test_the_two_branches_really_differ(end_to_end):
    image = photograph(256, 256, seed=1)
    found = [
        detcam.Explainer(detcam.load(end_to_end, imgsz=256, nms=nms), conf=1e-3, max_det=1, method="layercam")(image)[
            0
        ].detections[0]
        for nms in (True, False)
    ]
    assert (found[0].anchor, found[0].class_id) != (found[1].anchor, found[1].class_id)


@pytest.mark.parametrize("given", ["YOLO", "module"])
@pytest.mark.parametrize("predicted", ["never", "before"])
def test_the_model_is_left_as_it_was(scene_image, given, predicted):
    model = YOLO(WEIGHTS)
    model.model.train()
    model.model.model[3].eval()  # mixed modes survive
    next(model.model.parameters()).grad = torch.ones_like(next(model.model.parameters()))
    fired = []
    model.model.model[2].register_forward_hook(lambda *_: fired.append(1))
    if predicted == "before":
        model.predict(scene_image[..., ::-1], verbose=False)
        fired.clear()
    before = snapshot(model.model)
    result = detcam.explain(model if given == "YOLO" else model.model, scene_image, method="layercam")
    assert len(result)
    assert all(e.status == "ok" for e in result)
    assert snapshot(model.model) == before
    assert not fired


def test_it_works_before_and_after_predict_and_after_fusing(scene_image):
    model = YOLO(WEIGHTS)
    first = detcam.explain(model, scene_image, method="layercam")
    model.predict(scene_image[..., ::-1], verbose=False)
    second = detcam.explain(model, scene_image, method="layercam")
    model.fuse()
    third = detcam.explain(model, scene_image, method="layercam")
    for other in (second, third):
        assert [e.detection.anchor for e in other] == [e.detection.anchor for e in first]
        for a, b in zip(first, other, strict=True):
            assert np.abs(a.heatmap.array - b.heatmap.array).max() < 1e-3


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_caller_may_have_gradients_switched_off(scene_image, demo_detector, context):
    outside = detcam.explain(demo_detector, scene_image, method="layercam")
    with context():
        inside = detcam.explain(demo_detector, scene_image, method="layercam")
        loaded_inside = detcam.explain(WEIGHTS, scene_image, method="layercam")
    for result in (inside, loaded_inside):
        assert np.array_equal(result[0].heatmap.raw, outside[0].heatmap.raw)


def test_layer_groups(demo_detector):
    assert demo_detector.resolve("backbone") == ("model.4", "model.6", "model.9")
    assert demo_detector.resolve("neck") == ("model.15", "model.18", "model.21")
    assert demo_detector.resolve("auto") == demo_detector.resolve("backbone")
    assert demo_detector.resolve("model.15, backbone") == ("model.15", "model.4", "model.6", "model.9")
    assert demo_detector.resolve(["model.2.cv1.conv"]) == ("model.2.cv1.conv",)
    layer = next(layer for layer in demo_detector.layers() if layer.name == "model.18")
    assert (layer.type, layer.stride, layer.shape, layer.groups) == ("C2f", (16, 16), (96, 16, 16), ("neck",))


def test_a_layer_inside_the_head_can_be_explained(scene_image, demo_detector):
    result = detcam.explain(demo_detector, scene_image, layers="model.22.cv3.0.1", method="layercam")
    assert all((e.status == "ok") == (e.detection.stride == 8) for e in result)


def test_a_level_the_box_did_not_come_from_has_no_signal(all_levels):
    detector, image, settings = all_levels
    for e in detcam.explain(detector, image, layers="model.21", method="gradnorm", **settings):
        assert (e.status == "ok") == (e.detection.stride == 32)
        if e.status == "no_signal":
            assert "model.21" in e.reason
            assert f"stride {e.detection.stride}" in e.reason
            assert not e.heatmap.array.any()


def test_only_the_layers_the_gradient_reaches_are_named(all_levels):
    detector, image, settings = all_levels
    own_input = {8: "model.15", 16: "model.18", 32: "model.21"}
    result = detcam.explain(detector, image, layers="neck,model.4", **settings, method="layercam")
    assert {e.detection.stride for e in result} == {8, 16, 32}
    for e in result:
        # a coarser neck output is made from the finer ones, never the other way round
        reached = {layer for stride, layer in own_input.items() if stride <= e.detection.stride}
        assert set(e.layers) == {"model.4", *reached}


def test_batches_do_not_change_maps(demo_detector):
    images = [render(make_scene(seed)) for seed in (1, 2, 3, 5)] + [photograph(100, 180)]
    alone = [detcam.explain(demo_detector, image, conf=0.05, method="layercam") for image in images]
    together = detcam.Explainer(demo_detector, conf=0.05, batch=4, method="layercam")(images)
    for a, b in zip(alone, together, strict=True):
        assert [e.detection.anchor for e in a] == [e.detection.anchor for e in b]
        for one, other in zip(a, b, strict=True):
            assert one.layers == other.layers
            assert np.allclose(one.heatmap.raw, other.heatmap.raw, rtol=1e-3, atol=1e-5 * one.heatmap.peak)


def test_a_loaded_detector_is_adjusted_without_a_copy_where_nothing_differs(demo_detector):
    assert detcam.load(demo_detector) is demo_detector
    assert detcam.load(demo_detector, device="cpu", imgsz=256) is demo_detector
    assert detcam.load(demo_detector, imgsz=320).imgsz == (320, 320)
    assert demo_detector.imgsz == (256, 256)


def test_what_is_not_a_detector_is_refused():
    with pytest.raises(WeightsError, match="Linear is no image classifier"):
        detcam.load(torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match="ends in SemanticSegment"):
        detcam.load(YOLO("yolo26n-sem.yaml", verbose=False))
    with pytest.raises(WeightsError, match="cannot explain a int"):
        detcam.load(3)


def test_settings_that_cannot_be_are_refused(demo_detector):
    with pytest.raises(UsageError, match="half precision needs a CUDA device"):
        detcam.load(demo_detector, half=True)
    with pytest.raises(UsageError, match="device 'tpu9' cannot be used"):
        detcam.load(demo_detector, device="tpu9")
    for imgsz in (0, 640.0, True, [320, 320, 320], []):
        with pytest.raises(UsageError, match="imgsz must be one or two whole numbers of pixels"):
            detcam.load(demo_detector, imgsz=imgsz)
    with pytest.raises(UsageError, match="nms=False asks for an NMS-free branch"):
        detcam.load(demo_detector, nms=False)


def test_a_copy_of_the_model_is_explained_and_not_the_model():
    model = DetectionModel("yolov8n.yaml", verbose=False)
    detector = detcam.load(model)
    assert {id(p) for p in detector.model.parameters()}.isdisjoint({id(p) for p in model.parameters()})
    assert copy.deepcopy(model).state_dict().keys() == detector.model.state_dict().keys()


def test_a_slow_machine_loses_no_boxes(demo_detector, scene_image, monkeypatch):
    """Ultralytics' suppression stops after a time by the clock; here every look at the clock is an hour later."""
    expected = detcam.explain(demo_detector, [scene_image, scene_image], batch=2, method="layercam")
    clock = iter(range(0, 10**9, 3600))
    monkeypatch.setattr("ultralytics.utils.nms.time.time", lambda: next(clock))
    slow = detcam.explain(demo_detector, [scene_image, scene_image], batch=2, method="layercam")
    assert [len(result) for result in slow] == [len(result) for result in expected] != [0, 0]


class Recorder:
    """What people hang on models: a hook that keeps activations with their graph, and an open file."""

    def __init__(self, path):
        self.file = path.open("w")
        self.kept = []

    def hook(self, module, arguments, output):
        self.kept.append(output)
        module.last = output


def test_models_with_hooks_that_cannot_be_copied_are_explained(tmp_path, scene_image):
    model = YOLO(WEIGHTS).model
    recorder = Recorder(tmp_path / "log")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.model[2].register_forward_hook(recorder.hook)
    model(torch.zeros(1, 3, 64, 64))
    assert model.model[2].last.grad_fn is not None
    assert all(e.status == "ok" for e in detcam.explain(model, scene_image, method="layercam"))
    assert len(recorder.kept) == 1
    recorder.file.close()


def test_a_detector_whose_boxes_are_not_finite_says_so(scene_image):
    model = YOLO(WEIGHTS).model
    for convs in model.model[-1].cv2:
        convs[-1].bias.data.fill_(torch.nan)
    with pytest.raises(InputError, match="boxes are not finite"):
        detcam.explain(model, scene_image, method="layercam")


@pytest.mark.parametrize("imgsz", [320, np.int64(320), (320,), [320, 320]])
def test_sizes_of_any_integer_kind(demo_detector, imgsz):
    assert detcam.load(demo_detector, imgsz=imgsz).imgsz == (320, 320)
