"""One image asked many times: the answers are the explainer's, nothing is kept of a question, nothing is changed."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics import YOLO

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import GEM, make_scene, render
from support.fake_detector import FakeDetector
from support.images import photograph
from support.models import snapshot

BLACK = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def session(demo_detector, scene_image):
    return detcam.open_image(demo_detector, scene_image)


@pytest.fixture
def passes(demo_detector, monkeypatch):
    """The size of every batch that the detector is given from now on."""
    sizes, forward = [], type(demo_detector).forward

    def counted(self, batch, *args, **kwargs):
        sizes.append(len(batch))
        return forward(self, batch, *args, **kwargs)

    monkeypatch.setattr(type(demo_detector), "forward", counted)
    return sizes


def same(one, other):
    kept = ["method", "target", "layers", "status", "reason", "support", "forwards", "receipt", "sentence"]
    assert [getattr(one, name) for name in kept] == [getattr(other, name) for name in kept]
    assert one.detection.xyxy.tolist() == other.detection.xyxy.tolist()
    assert one.heatmap.raw.tobytes() == other.heatmap.raw.tobytes()
    assert (one.evidence is None) == (other.evidence is None)
    if one.evidence is not None:
        assert one.evidence.patches.tolist() == other.evidence.patches.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "layercam", "layers": "neck", "smoothing": "aug", "fusion": "mean"},
        {"method": "drise", "budget": 32},
        {"method": "scorecam"},
        {"method": "random", "verify": True},
        {"target": "left", "method": "odam"},
        {"box": (20, 20, 90, 90), "class_name": "kite"},
    ],
    ids=str,
)
def test_explanations_are_the_explainers(session, demo_detector, scene_image, options):
    expected = detcam.explain(demo_detector, scene_image, **options)
    for _ in range(2):  # and the first question changes nothing for the second
        asked = session.explain(**options)
        assert len(asked) == len(expected) >= 1
        for one, other in zip(asked, expected, strict=True):
            same(one, other)


def test_some_detections_are_explained_in_the_order_asked(session):
    first, third = session.detections[0], session.detections[2]
    asked = session.explain([third, 0], method="layercam")
    assert [one.detection for one in asked] == [third, first]
    assert session.explain(np.int64(2), method="layercam")[0].detection is third
    assert session.explain([], method="layercam") == []


def test_detections_are_read_again_without_a_forward_pass(all_levels, passes):
    detector, image, settings = all_levels
    session = detcam.open_image(detector, image, conf=0.9)
    expected = detcam.explain(detector, image, method="random", classes=[0, 1, 2], **settings).detections
    passes.clear()
    lower = session.detections_at(classes=[0, 1, 2], **settings)
    assert passes == []
    assert [(one.anchor, one.xyxy.tolist()) for one in lower] == [(one.anchor, one.xyxy.tolist()) for one in expected]
    assert len(lower) > 50 > len(session.detections)
    assert session.explain(lower[-1], method="layercam")[0].detection is lower[-1]
    assert len(session.detections_at()) == len(session.detections)


def test_detections_at_are_of_the_thresholds_it_was_opened_with(demo_detector, scene_image):
    session = detcam.open_image(demo_detector, scene_image, conf=0.01, classes=["gem", 0], max_det=3)
    assert len(session.detections) == 3
    assert {one.class_name for one in session.detections_at(max_det=300)} == {"gem", "ball"}
    assert len(session.detections_at(conf=0.99)) <= 1


def test_one_forward_pass_opens_an_image(demo_detector, scene_image, passes):
    detcam.open_image(demo_detector, scene_image)
    assert passes == [1]


def test_scores_of_changed_images_by_hand():
    session = detcam.open_image(FakeDetector(), np.full((4, 4, 3), 255, np.uint8), conf=0)
    corner = next(one for one in session.detections if one.anchor == 0 and one.class_name == "light")
    # White: 4 cells around the corner, each 2 x 1 + 1 x -1. Of the 9 anchors near it the one on its own box counts,
    # as a neighbour's larger logit (6 cells) is worth a third of the overlap, and black is 0.5 everywhere.
    sigmoid = 1 / (1 + np.exp(-4.0))
    assert session.score(session.image, corner) == pytest.approx(sigmoid, abs=1e-6)
    assert session.score(BLACK, corner) == 0.5
    assert session.scores([BLACK, session.image], [corner, corner]) == pytest.approx(
        np.array([[0.5, 0.5], [sigmoid, sigmoid]]), abs=1e-6
    )
    # Anchors' boxes are 2 x 2 about the cells' centres. This one is half a cell off in x and in y from four of them.
    assert session.score(BLACK, box=(1, 1, 3, 3), class_name="light") == pytest.approx(0.5 * 2.25 / 5.75, abs=1e-6)
    assert session.score(BLACK, box=(0.5, 0.5, 2.5, 2.5), class_name=0) == pytest.approx(0.5, abs=1e-6)


def test_scores_are_those_of_receipts_in_batches(session, passes):
    told = session.explain()
    passes.clear()
    scores = session.scores(session.image for _ in range(20))
    assert passes == [16, 4]
    assert scores.shape == (20, len(told))
    assert scores.dtype == np.float32
    assert scores == pytest.approx(np.array([[one.receipt.score for one in told]] * 20), abs=1e-5)
    assert session.score(session.image, 1) == pytest.approx(told[1].receipt.score, abs=1e-5)


def test_scores_without_images_or_detections(demo_detector):
    nothing = detcam.open_image(demo_detector, np.full((64, 96, 3), 114, np.uint8), conf=0.9)
    assert nothing.detections == ()
    assert nothing.scores([nothing.image] * 2).shape == (2, 0)
    assert nothing.scores([], box=(1, 1, 9, 9), class_name="kite").shape == (0, 1)
    assert nothing.explain() == []


def test_boxes_and_patches_are_in_the_originals_pixels(demo_detector):
    """A gem that the planted mark makes a kite, in an image of another size and shape than the detector's input."""
    wide = np.full((600, 1000, 3), 114, np.uint8)
    for seed in range(440_000, 440_024):
        scene = make_scene(seed).with_marks(True, GEM)
        wide[:512, :512] = np.asarray(Image.fromarray(render(scene)).resize((512, 512), Image.Resampling.NEAREST))
        session = detcam.open_image(demo_detector, wide, imgsz=512)
        for gem in (thing for thing in scene.things if thing.class_id == GEM):
            for number, one in enumerate(session.detections):
                box, truth = one.xyxy, 2 * np.array(gem.xyxy)
                if one.class_name != "kite" or np.abs(box - truth).max() > 24:
                    continue
                evidence = session.evidence(number)
                if evidence is None or evidence.is_all_around or evidence.outside < 0.75:
                    continue
                x1, y1, x2, y2 = evidence.xyxy
                left, top, right, bottom = 2 * np.array(gem.mark_xyxy)
                assert min(x2, right) > max(x1, left)
                assert min(y2, bottom) > max(y1, top)
                here = session.score(session.image, box=one.xyxy, class_name="kite")
                assert here == pytest.approx(session.score(session.image, number), abs=0.02)
                hidden = session.image.copy()
                hidden[y1:y2, x1:x2] = hidden[:512, :512].mean((0, 1))
                assert session.score(hidden, number) < 0.25 < session.score(session.image, number)
                return
    raise AssertionError("no mark was found to be evidence")


def test_a_receipt_for_any_map(session):
    (one,) = session.explain(0, method="layercam")
    assert one.receipt is None
    verified = session.explain(0, method="layercam", verify=True)[0].receipt
    assert session.receipt(one) == verified
    assert verified.kept


def test_what_cannot_be_asked(session, demo_detector, scene_image):
    (one,) = session.explain(0, method="layercam")
    other = detcam.open_image(demo_detector, scene_image[::-1])
    with pytest.raises(detcam.UsageError, match="of another image"):
        other.receipt(one)
    empty = detcam.Heatmap(np.zeros((4, 4)), session.letterbox)
    with pytest.raises(detcam.UsageError, match="without a positive part"):
        session.receipt(detcam.Explanation(one.detection, empty, "", "", (), "ok", "", session.image))
    with pytest.raises(detcam.UsageError, match="a score is of something"):
        session.score(session.image)
    with pytest.raises(detcam.UsageError, match="give one of the two"):
        session.score(session.image, 0, box=(0, 0, 9, 9), class_name="kite")
    with pytest.raises(detcam.UsageError, match="give both"):
        session.explain(box=(0, 0, 9, 9))
    with pytest.raises(detcam.InputError, match="this image: no detection 99"):
        session.explain(99)
    with pytest.raises(detcam.InputError, match="256 x 256 pixels, got 128 x 256"):
        session.scores([scene_image[:, ::2]])
    with pytest.raises(detcam.UsageError, match="counted from 0"):
        session.explain(-1)
    with pytest.raises(detcam.UsageError, match="conf must lie"):
        session.detections_at(conf=2)
    with pytest.raises(detcam.UsageError, match="no class 'dog'"):
        session.detections_at(classes="dog")


@pytest.mark.parametrize(
    "options", [{"conf": 7}, {"iou": "high"}, {"max_det": 0}, {"classes": []}, {"seed": -1}, {"seed": 0.5}], ids=str
)
def test_options_and_image_are_looked_at_before_the_weights(options, scene_image):
    with pytest.raises(detcam.UsageError, match=next(iter(options))):
        detcam.open_image("gone.pt", scene_image, **options)
    with pytest.raises(detcam.InputError, match="no such file"):
        detcam.open_image("gone.pt", "gone.jpg")
    with pytest.raises(detcam.WeightsError):
        detcam.open_image("gone.pt", scene_image)


def test_the_model_and_the_image_are_left_as_they_were(scene_image):
    model = YOLO(WEIGHTS)
    before, pixels = snapshot(model.model), scene_image.tobytes()
    session = detcam.open_image(model, scene_image)
    session.explain(0)
    session.explain(0, method="layercam", verify=True)
    session.score(photograph(*scene_image.shape[:2]), 0)
    assert snapshot(model.model) == before
    assert scene_image.tobytes() == pixels
    with pytest.raises(ValueError, match="read-only"):
        session.image[:] = 0


def held(session):
    """Tensors alive, and their bytes."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return len(tensors), sum(one.numel() * one.element_size() for one in tensors)


def test_nothing_is_kept_of_a_question(session, demo_detector):
    def ask():
        session.explain(0)
        session.explain(method="layercam")
        session.explain(0, method="scorecam")
        session.score(session.image, 0)
        session.detections_at(conf=0.01)

    ask()  # what the detector itself keeps, for all images, it has now
    before = held(session)
    for _ in range(3):
        ask()
    assert held(session) == before


def test_no_graph_is_held(session, demo_detector, monkeypatch):
    outputs, forward = [], type(demo_detector).forward

    def watched(self, *args, **kwargs):
        raw = forward(self, *args, **kwargs)
        outputs.append(weakref.ref(raw))
        return raw

    monkeypatch.setattr(type(demo_detector), "forward", watched)
    session = detcam.open_image(demo_detector, session.image)
    session.explain(method="layercam")
    gc.collect()
    alive = [one() for one in outputs if one() is not None]
    assert len(outputs) == 2
    assert len(alive) == 1
    values = [*vars(alive[0]).values(), *alive[0].extras.values(), *alive[0].activations.values()]
    assert not any(isinstance(one, torch.Tensor) and (one.requires_grad or one.grad_fn) for one in values)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_caller_may_ask_in_inference_mode(demo_detector, scene_image, mode):
    expected = detcam.open_image(demo_detector, scene_image).explain(0, method="layercam")[0]
    with mode():
        session = detcam.open_image(demo_detector, scene_image)
        inside = session.explain(0, method="layercam")[0]
        assert session.score(scene_image, 0) > 0.5
    same(inside, expected)
    same(session.explain(0, method="layercam")[0], expected)


def test_a_black_box_can_be_asked(scene_image):
    def predict(images):
        bright = [float(image[8:24, 8:24].mean()) / 255 for image in images]
        return [([[8, 8, 24, 24], [40, 40, 60, 60]], [[share], [0.3]]) for share in bright]

    image = np.zeros((64, 64, 3), np.uint8)
    image[8:24, 8:24] = 255
    session = detcam.open_image(detcam.BlackBox(predict, ["bright"]), image)
    assert [one.confidence for one in session.detections] == pytest.approx([1, 0.3], abs=1e-3)
    half = image.copy()
    half[8:24, 8:16] = 0
    assert session.scores([half]) == pytest.approx(np.array([[0.5, 0.3]]), abs=1e-3)
    assert session.explain(0)[0].method == "effect"
