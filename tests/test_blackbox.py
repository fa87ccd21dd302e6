"""Detectors that can only be called: the same detections as the network itself, and clear words where they go wrong."""

import shutil
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from ultralytics import YOLO

import detcam
from detcam.adapters.blackbox import BlackBox, onnx_detector
from detcam.adapters.decoding import DecodeSettings
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import InputError, UsageError, WeightsError
from support.comparison import paired
from support.images import photograph


def detect(detector, images, **settings):
    batch, letterboxes = detector.prepare(images)
    return detector.decode(detector.forward(batch), letterboxes, DecodeSettings(**settings))


def check_same(ours, theirs, anchors=True):
    """Same count, class and anchor, confidence within 1e-3 and boxes within a pixel; returns how many."""
    parts = [[getattr(d, name) for d in theirs] for name in ("class_id", "confidence", "xyxy")]
    for n, m in paired(ours, *parts, within=1e-3):
        assert ours[n].class_name == theirs[m].class_name
        assert np.abs(ours[n].xyxy - theirs[m].xyxy).max() <= 1
        assert not anchors or ours[n].anchor == theirs[m].anchor
    return len(ours)


def called(detector):
    """A torch detector as a function of images."""

    def predict(images):
        batch, letterboxes = detector.prepare(images)
        raw = detector.forward(batch)
        return [
            (letterbox.to_original(boxes.numpy()), logits.sigmoid())
            for letterbox, boxes, logits in zip(letterboxes, raw.boxes, raw.logits, strict=True)
        ]

    return predict


def fixed(*answers, names=("cat", "dog"), **settings):
    """A black box that gives these answers whatever it is shown."""
    return BlackBox(lambda images: list(answers), names, **settings)


BLANK = np.zeros((40, 60, 3), np.uint8)
ALIKE = (
    [[0, 0, 20, 20], [0, 0, 20, 19], [0, 0, 20, 20], [-5, 10, 30, 90], [1, 1, 2, 2]],
    [[0.8, 0.1], [0.9, 0.0], [0.2, 0.85], [0.3, 0.1], [0.0, 0.0]],
)


@pytest.mark.parametrize("settings", [{}, {"conf": 0.01, "iou": 0.2}, {"max_det": 1}, {"classes": [0, 3]}])
def test_a_wrapped_detector_gives_the_detections_of_the_detector(demo_detector, settings):
    box = BlackBox(called(demo_detector), demo_detector.names)
    images = [render(make_scene(seed)) for seed in range(4)] + [photograph(200, 333), render(make_scene(9))[:140]]
    found = [check_same(detect(box, [i], **settings)[0], detect(demo_detector, [i], **settings)[0]) for i in images]
    assert sum(found) >= 4


def test_it_is_given_the_image_it_was_asked_about():
    given = []
    nothing = np.zeros((0, 4)), np.zeros((0, 1))
    box = BlackBox(lambda images: [given.append(image) or nothing for image in images], ["cat"])
    images = [photograph(30, 47, seed) for seed in range(3)]
    batch, letterboxes = box.prepare(images)
    assert batch.shape == (3, 3, 30, 47)
    assert batch.min() >= 0
    assert batch.max() <= 1
    raw = box.forward(batch)
    assert all(np.array_equal(a, b) and a.dtype == np.uint8 for a, b in zip(given, images, strict=True))
    assert raw.size == (30, 47)
    boxes = np.array([[1.5, 2, 3, 4]])
    assert np.array_equal(letterboxes[0].to_network(boxes), boxes)
    assert box.decode(raw, letterboxes, DecodeSettings()) == [(), (), ()]
    with pytest.raises(ValueError, match="must share a letterboxed shape"):
        box.prepare([BLANK, BLANK[1:]])


def test_raw_output_is_what_the_function_gave():
    scores = np.array([[0, 1], [0.5, 1e-5], [0.999999, 0.123456]])
    boxes = np.array([[1, 2, 11, 22], [-5, 0, 70, 40], [3, 3, 4, 5]])
    raw = fixed((boxes, scores)).forward(torch.zeros(1, 3, 40, 60))
    for row, class_id in np.ndindex(scores.shape):
        assert float(raw.probability(0, row, class_id)) == pytest.approx(scores[row, class_id], abs=1e-6)
    assert raw.logits.isfinite().all()
    assert np.array_equal(raw.boxes[0], boxes)
    assert raw.sides[0, 0].tolist() == [5, 10, 5, 10]
    assert raw.strides.tolist() == [0, 0, 0]
    assert raw.tracked_anchor(0, np.array([0, 0, 60, 40.0]), 0)[0] == 1


def test_images_with_fewer_rows_are_padded_with_rows_that_say_nothing():
    few, none = ([[1, 2, 3, 4]], [[0.7, 0.0]]), (np.zeros((0, 4)), np.zeros((0, 2)))
    box = fixed(ALIKE, few, none)
    together = detect(box, [BLANK] * 3, conf=0.0)
    assert [[(d.anchor, d.class_id) for d in found] for found in together] == [[(1, 0), (2, 1), (3, 0)], [(0, 0)], []]
    for answer, found in zip((ALIKE, few, none), together, strict=True):
        check_same(detect(fixed(answer), [BLANK], conf=0.0)[0], found)
    raw = fixed(none).forward(torch.zeros(1, 3, 8, 8))
    assert raw.boxes.shape == (1, 1, 4)
    assert raw.tracked_anchor(0, np.array([0, 0, 8, 8.0]), 1) == (0, 0)


def test_suppression_is_within_a_class_and_boxes_are_cut_to_the_image():
    found = detect(fixed(ALIKE), [BLANK])[0]
    assert [(d.anchor, d.class_name) for d in found] == [(1, "cat"), (2, "dog"), (3, "cat")]
    assert [d.confidence for d in found] == pytest.approx([0.9, 0.85, 0.3], abs=1e-6)
    assert found[2].xyxy.tolist() == [0, 10, 30, 40]
    assert all(d.stride == 0 for d in found)
    assert [d.anchor for d in detect(fixed(ALIKE), [BLANK], iou=0.96)[0]] == [1, 2, 0, 3]
    assert [d.anchor for d in detect(fixed(ALIKE, suppressed=True), [BLANK], iou=0.1)[0]] == [1, 2, 0, 3]
    assert [d.anchor for d in detect(fixed(ALIKE), [BLANK], max_det=2)[0]] == [1, 2]
    assert [d.anchor for d in detect(fixed(ALIKE), [BLANK], classes=[0])[0]] == [1, 3]
    assert [d.anchor for d in detect(fixed(ALIKE), [BLANK], conf=0.86)[0]] == [1]


ROW = [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "gave 0 answers for 1 images"),
        ([(ROW, [[0, 1]])] * 2, "gave 2 answers for 1 images"),
        ((answer for answer in ()), "gave a generator for 1 images"),
        ([None], r"gave a NoneType for image 0; expected boxes \(N, 4\) and class scores \(N, 2\)"),
        ([(ROW,)], "gave a tuple for image 0"),
        ([(ROW, [["a", "b"]])], "no arrays of numbers .* for image 0; expected boxes"),
        ([([[0, 1, 2]], [[0, 1]])], r"boxes \(1, 3\) and scores \(1, 2\) for image 0; expected boxes \(N, 4\)"),
        ([([0, 0, 1, 1], [[0, 1]])], r"boxes \(4,\) and scores \(1, 2\)"),
        ([(ROW * 2, [[0, 1]])], r"boxes \(2, 4\) and scores \(1, 2\)"),
        ([(ROW, [[0, 1, 0]])], r"scores \(1, 3\) for image 0; .* class scores \(N, 2\)"),
        ([(ROW, [0.5])], r"scores \(1,\)"),
        ([([[0, 0, 1, np.inf]], [[0, 1]])], "values that are not finite for image 0"),
        ([([[0, 0, 1, 1e300]], [[0, 1]])], "values that are not finite for image 0"),
        ([(ROW, [[0, np.nan]])], "values that are not finite for image 0"),
        ([(ROW, [[-0.5, 3]])], r"scores from -0.5 to 3 for image 0; .* in \[0, 1\]"),
    ],
)
def test_what_is_no_answer_is_refused(answers, message):
    box = BlackBox(lambda images: answers, ["cat", "dog"])
    with pytest.raises(InputError, match=message):
        box.forward(torch.zeros(1, 3, 4, 4))


def test_it_has_no_layers_and_no_gradients():
    box = fixed(ALIKE)
    assert BlackBox.differentiable is False
    assert box.layers() == ()
    assert box.resolve("auto") == box.resolve(["auto"]) == box.resolve(()) == ()
    for layers in ("neck", ["model.4"], ["auto", "neck"]):
        with pytest.raises(UsageError, match="a black box has no layers"):
            box.resolve(layers)
        with pytest.raises(UsageError, match="a black box has no layers"):
            box.forward(torch.zeros(1, 3, 4, 4), layers)


def test_settings_belong_to_the_function():
    box = fixed(ALIKE, imgsz=(256, 320))
    assert box.adjusted() is box.adjusted("cpu", [256, 320]) is box.adjusted(torch.device("cpu"), half=False) is box
    for settings in ({"device": "cuda:0"}, {"imgsz": 256}, {"half": True}, {"nms": False}):
        with pytest.raises(UsageError, match=f"{next(iter(settings))} cannot be set for a black box"):
            box.adjusted(**settings)
    with pytest.raises(UsageError, match="predict must be a function"):
        BlackBox("detector.onnx", ["cat"])
    for names in ([], {1: "cat"}):
        with pytest.raises(UsageError, match="numbered from 0"):
            BlackBox(print, names)


class FakeSession:
    """What ONNX Runtime offers of a session. Its answer is made from the batch by ``answer``; it keeps every batch."""

    def __init__(self, answer, shape=(1, 3, 64, 64), kind="tensor(float)", **about):
        self.answer, self.shape, self.kind, self.seen = answer, list(shape), kind, []
        self.about = {"task": "detect", "stride": "32", "imgsz": "[64, 64]", "names": "{0: 'cat', 1: 'dog'}", **about}

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map=self.about)

    def get_inputs(self):
        return [SimpleNamespace(name="images", shape=self.shape, type=self.kind)]

    def run(self, outputs, feed):
        assert outputs is None
        self.seen.append(feed["images"])
        return [np.stack([np.asarray(self.answer(image), feed["images"].dtype) for image in feed["images"]])]


# Two boxes of a 64 x 64 input: x, y, width, height, cat, dog
RAW = np.array([[32, 32, 16, 8, 0.75, 0.25], [10, 50, 4, 4, 0.125, 0.5], [1, 1, 1, 1, 0, 0]]).T
FINAL = np.array([[24, 28, 40, 36, 0.75, 0], [8, 48, 12, 52, 0.5, 1], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("kind", ["tensor(float)", "tensor(float16)"])
@pytest.mark.parametrize(("output", "suppressed"), [(RAW, False), (FINAL, True)])
def test_both_kinds_of_output_are_read(kind, output, suppressed):
    session = FakeSession(lambda image: output, kind=kind)
    box = onnx_detector(session)
    assert (box.suppressed, box.imgsz, box.names) == (suppressed, (64, 64), {0: "cat", 1: "dog"})
    image = np.full((32, 128, 3), 255, np.uint8)  # halved, and put in the middle of 64 x 64
    found = detect(box, [image])[0]
    assert [(d.class_name, d.anchor) for d in found] == [("cat", 0), ("dog", 1)]
    assert [d.confidence for d in found] == pytest.approx([0.75, 0.5], abs=1e-6)
    assert found[0].xyxy.tolist() == [48, 8, 80, 24]
    batch = session.seen[-1]
    assert batch.dtype == (np.float32 if kind == "tensor(float)" else np.float16)
    assert batch.shape == (1, 3, 64, 64)
    assert np.allclose(batch[0, :, 24:40], 1)
    assert np.allclose(batch[0, :, :24], 114 / 255, atol=1e-3)
    assert np.allclose(batch[0, :, 40:], 114 / 255, atol=1e-3)


def test_a_model_of_any_size_is_given_the_smallest_letterbox():
    session = FakeSession(lambda image: RAW, ("batch", 3, "height", "width"), imgsz="[96, 96]")
    box = onnx_detector(session)
    assert box.imgsz == (96, 96)
    assert len(detect(box, [photograph(50, 96), photograph(50, 96)])) == 2
    assert session.seen[-1].shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    ("output", "shape", "about", "turns"),
    [
        (RAW, (1, 3, 64, 64), {}, [1] * 5),
        (RAW, (2, 3, 64, 64), {}, [2] * 3),
        (RAW, ("batch", 3, 64, 64), {}, [5]),
        (FINAL, ("batch", 3, 64, 64), {}, [1] * 5),
        (FINAL, ("batch", 3, 64, 64), {"batch": "3"}, [3] * 2),
    ],
)
def test_images_go_in_by_as_many_as_the_model_takes(output, shape, about, turns):
    def answer(image):  # the first box's confidence is the image's brightness
        out = output.copy()
        out[(0, 4) if output is FINAL else (4, 0)] = image.max()
        return out

    session = FakeSession(answer, shape, **about)
    box = onnx_detector(session)
    session.seen.clear()
    images = [np.full((64, 64, 3), value, np.uint8) for value in (100, 130, 160, 200, 250)]
    found = detect(box, images, classes=[0])
    assert [len(batch) for batch in session.seen] == turns
    assert [d[0].confidence for d in found] == pytest.approx([v / 255 for v in (100, 130, 160, 200, 250)], abs=1e-5)


def test_the_kind_of_output_is_told_by_the_metadata_where_its_shape_does_not():
    square = np.zeros((6, 6))
    assert not onnx_detector(FakeSession(lambda image: square)).suppressed
    assert onnx_detector(FakeSession(lambda image: square, end2end="True")).suppressed
    assert onnx_detector(FakeSession(lambda image: square, args="{'nms': True}")).suppressed


def test_rows_below_conf_are_left_out():
    raw = onnx_detector(FakeSession(lambda image: RAW), conf=0.6).forward(torch.zeros(1, 3, 64, 64))
    assert raw.boxes.shape == (1, 1, 4)
    raw = onnx_detector(FakeSession(lambda image: RAW)).forward(torch.zeros(1, 3, 64, 64))
    assert raw.boxes.shape == (1, 3, 4)
    raw = onnx_detector(FakeSession(lambda image: FINAL)).forward(torch.zeros(1, 3, 64, 64))
    assert raw.boxes.shape == (1, 2, 4)


def test_models_that_are_none_of_these_are_refused():
    with pytest.raises(WeightsError, match=r"gives \(1, 7, 3\); expected \(1, 6, anchors\)"):
        onnx_detector(FakeSession(lambda image: np.zeros((7, 3))))
    with pytest.raises(WeightsError, match=r"gives \(1, 7\); expected"):
        onnx_detector(FakeSession(lambda image: np.zeros(7)))
    for about in ({"task": "segment"}, {"head": "RTDETRDecoder"}, {"channels": "1"}):
        with pytest.raises(WeightsError, match="no exported YOLO"):
            onnx_detector(FakeSession(lambda image: RAW, **about))
    nameless = FakeSession(lambda image: RAW)
    del nameless.about["names"]
    with pytest.raises(UsageError, match="give names"):
        onnx_detector(nameless)
    assert onnx_detector(nameless, ["a", "b"]).names == {0: "a", 1: "b"}
    with pytest.raises(InputError, match="but names 1"):
        detect(onnx_detector(FakeSession(lambda image: FINAL), ["a"]), [BLANK])


def test_files_that_cannot_be_run_are_refused(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="no such weights file"):
        onnx_detector(tmp_path / "missing.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"nothing")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install onnxruntime"):
        onnx_detector(damaged)
    monkeypatch.undo()
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
    with pytest.raises(WeightsError, match=r"damaged\.onnx cannot be run"):
        onnx_detector(str(damaged))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Makes ONNX exports of the demo detector, each kind once."""
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed: the export of the demo detector needs it")
    folder = tmp_path_factory.mktemp("onnx")

    def export(**choices):
        path = folder / ("-".join(choices) + "model.onnx")
        if not path.exists():
            shutil.copy(WEIGHTS, path.with_suffix(".pt"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's exporter warns of itself
                model = YOLO(path.with_suffix(".pt"))
                model.export(format="onnx", imgsz=256, simplify=False, verbose=False, **choices)
        return path

    return export


@pytest.mark.parametrize("choices", [{}, {"nms": True}, {"dynamic": True}, {"nms": True, "dynamic": True}])
def test_an_export_gives_the_detections_of_its_checkpoint(exported, demo_detector, choices):
    box = onnx_detector(exported(**choices))
    assert box.names == demo_detector.names
    assert box.imgsz == (256, 256)
    assert box.suppressed is ("nms" in choices)
    images = [render(make_scene(seed)) for seed in range(20)]
    ours, theirs = detect(box, images), detect(demo_detector, images)
    found = [check_same(a, b, anchors=not box.suppressed) for a, b in zip(ours, theirs, strict=True)]
    assert sum(found) > 30


@pytest.mark.parametrize(("choices", "rect"), [({}, False), ({"nms": True}, False), ({"dynamic": True}, True)])
def test_an_export_gives_the_detections_of_predict_at_any_shape(exported, choices, rect):
    box, model = onnx_detector(exported(**choices)), YOLO(WEIGHTS)
    count = 0
    for image in [render(make_scene(seed))[: 100 + 20 * seed, 40:] for seed in range(6)]:
        theirs = model.predict(image[..., ::-1], verbose=False, rect=rect)[0].boxes
        ours = detect(box, [image])[0]
        assert [d.class_id for d in ours] == theirs.cls.int().tolist()
        assert np.abs([d.confidence for d in ours] - theirs.conf.numpy()).max(initial=0) <= 1e-3
        assert np.abs(np.array([d.xyxy for d in ours]).reshape(-1, 4) - theirs.xyxy.numpy()).max(initial=0) <= 1
        count += len(ours)
    assert count > 5


def test_a_session_may_be_given(exported, scene_image):
    path = exported()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert check_same(detect(onnx_detector(session), [scene_image])[0], detect(onnx_detector(path), [scene_image])[0])


def test_methods_that_look_inside_refuse_and_name_those_that_work(scene_image):
    box = BlackBox(called(detcam.load(WEIGHTS)), ["ball", "crate", "cone", "kite", "gem"])
    with pytest.raises(
        UsageError,
        match=r"'layercam' looks inside the model.*methods that work: occlusion, windows, drise, dcrisp, vps, ",
    ):
        detcam.explain(box, scene_image, method="layercam")
    with pytest.raises(UsageError, match="'eigencam' looks inside"):
        detcam.explain(box, scene_image, method="eigencam")
    result = detcam.explain(box, scene_image, method="random")
    assert len(result) == len(detcam.explain(WEIGHTS, scene_image, method="random"))
    assert all(e.status == "ok" and e.heatmap.array.shape == scene_image.shape[:2] for e in result)


def test_an_onnx_path_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        detcam.load(tmp_path / "gone.onnx")


@pytest.mark.parametrize(("method", "budget"), [("occlusion", 64), ("drise", 48), ("dcrisp", 48)])
def test_an_export_has_the_maps_of_its_checkpoint(exported, demo_detector, scene_image, method, budget):
    box = onnx_detector(exported(dynamic=True))
    ours, theirs = (detcam.explain(model, scene_image, method=method, budget=budget) for model in (box, demo_detector))
    assert len(ours) == len(theirs) >= 4
    for a, b in zip(ours, theirs, strict=True):
        correlation = spearmanr(a.heatmap.raw, b.heatmap.raw, axis=None).statistic
        print(f"{method}: {a.detection.caption}, rank correlation {correlation:.4f}")
        assert correlation > 0.98


def test_a_black_box_is_searched_and_gets_receipts(scene_image):
    box = BlackBox(called(detcam.load(WEIGHTS)), ["ball", "crate", "cone", "kite", "gem"])
    result = detcam.explain(box, scene_image, method="guided", detection=[0, 1], verify=True)
    assert [e.receipt.forwards for e in result] == [16, 16]
    assert sum(e.receipt.supported for e in result) >= 1
    plain = detcam.explain(box, scene_image, method="guided", detection=[0, 1])
    assert all(e.forwards <= 64 for e in plain)
