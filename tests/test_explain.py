import gc

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

import detcam
from detcam.demo import WEIGHTS
from detcam.errors import InputError, UsageError
from detcam.tensors.fusion import box_reach, gradient_support
from support.data import real


def test_every_detection_has_its_own_map(scene_image, demo_detector):
    result = detcam.explain(demo_detector, scene_image, method="layercam")
    assert len(result) == len(result.detections) >= 4
    assert [e.detection.confidence for e in result] == sorted((e.detection.confidence for e in result), reverse=True)
    for e in result:
        assert e.status == "ok"
        assert e.heatmap.array.dtype == np.float32
        assert e.heatmap.array.shape == scene_image.shape[:2]
        assert e.heatmap.array.min() >= 0
        assert e.heatmap.array.max() == 1
        x1, y1, x2, y2 = e.detection.xyxy.astype(int)
        inside = e.heatmap.array[y1:y2, x1:x2]
        assert inside.mean() > 2 * e.heatmap.array.mean()


def same_class_correlations(result):
    """Rank correlations of the maps of every two detections of one class."""
    values = []
    for i, a in enumerate(result):
        for b in result[i + 1 :]:
            if a.detection.class_id == b.detection.class_id:
                values.append(spearmanr(a.heatmap.array[::4, ::4], b.heatmap.array[::4, ::4], axis=None).statistic)
    return values


def test_two_objects_of_one_class_get_different_maps(scene_image, demo_detector):
    correlations = same_class_correlations(detcam.explain(demo_detector, scene_image, method="layercam"))
    print("rank correlations of same-class maps:", np.round(correlations, 3))
    assert correlations
    assert max(correlations) < 0.9


@pytest.mark.parametrize(
    ("weights", "folder"),
    [("yolov8n.pt", "coco/images"), ("yolo26n.pt", "coco/images"), ("hogdetect.pt", "hog/val/images")],
)
@pytest.mark.parametrize("share", [0.1, pytest.param(1, marks=pytest.mark.slow)])
def test_photographs(weights, folder, share):
    images = sorted(real(folder).glob("*.jpg"))
    explainer = detcam.Explainer(real(f"weights/{weights}"), method="layercam")
    correlations, count = [], 0
    for image in images[: max(int(len(images) * share), 1)]:
        (result,) = explainer(image)
        assert len(result) == len(result.detections)
        for e in result:
            assert e.status == "ok", e.reason
            assert np.isfinite(e.heatmap.array).all()
            assert e.heatmap.array.shape == result.image.shape[:2]
        count += len(result)
        correlations += same_class_correlations(result)
    print(f"{weights}: {count} maps; rank correlation of {len(correlations)} same-class pairs: "
          f"median {np.median(correlations):.3f}, largest {max(correlations):.3f}")  # fmt: skip
    assert max(correlations) < 0.999
    assert np.median(correlations) < 0.8


def test_every_kind_of_image_gives_the_same_map(tmp_path, scene_image, demo_detector):
    path = tmp_path / "é scene.png"
    Image.fromarray(scene_image).save(path)
    given = [
        path,
        str(path),
        scene_image,
        Image.fromarray(scene_image),
        torch.from_numpy(scene_image.copy()).permute(2, 0, 1),
        torch.from_numpy(scene_image.copy()).permute(2, 0, 1).float() / 255,
    ]
    results = detcam.explain(demo_detector, given, method="layercam")
    results.append(
        detcam.explain(demo_detector, np.ascontiguousarray(scene_image[..., ::-1]), bgr=True, method="layercam")
    )
    for result in results:
        assert np.array_equal(result[0].heatmap.raw, results[0][0].heatmap.raw)


def test_the_image_passed_in_is_not_changed_and_not_kept(scene_image, demo_detector):
    image = scene_image.copy()
    result = detcam.explain(demo_detector, image, method="layercam")
    assert np.array_equal(image, scene_image)
    image[:] = 0
    assert np.array_equal(result.image, scene_image)
    assert result[0].plot().shape == scene_image.shape


def test_only_the_detections_asked_for(scene_image, demo_detector):
    full = detcam.explain(demo_detector, scene_image, method="layercam")
    some = detcam.explain(demo_detector, scene_image, detection=[2, 0], method="layercam")
    assert [e.detection.anchor for e in some] == [full[2].detection.anchor, full[0].detection.anchor]
    assert np.array_equal(some[0].heatmap.raw, full[2].heatmap.raw)
    assert len(some.detections) == len(full)
    with pytest.raises(InputError, match="no detection 99; at these thresholds this image has"):
        detcam.explain(demo_detector, scene_image, detection=99, method="layercam")


def test_a_box_the_detector_did_not_report(scene_image, demo_detector):
    reported = detcam.explain(demo_detector, scene_image, method="layercam")[0]
    asked = detcam.explain(
        demo_detector,
        scene_image,
        conf=0.99,
        box=reported.detection.xyxy,
        class_name=reported.detection.class_name,
        method="layercam",
    )[0]
    assert asked.detection.anchor == reported.detection.anchor
    # Not the last bits: several detections go through the graph together, and what adds up in which order is theirs.
    assert np.allclose(asked.heatmap.raw, reported.heatmap.raw, rtol=0, atol=1e-6 * reported.heatmap.raw.max())
    assert np.array_equal(asked.detection.asked, reported.detection.xyxy)
    other = detcam.explain(
        demo_detector, scene_image, box=reported.detection.xyxy, class_name="ball", method="layercam"
    )[0]
    assert other.detection.class_name == "ball"
    assert other.status == "ok"


def test_the_anchor_for_a_box_is_the_best_product_of_overlap_and_probability(scene_image, demo_detector):
    box, class_id = np.array([100.0, 60.0, 160.0, 130.0]), 3
    raw = demo_detector.forward(demo_detector.prepare([scene_image])[0])
    boxes, p = raw.boxes[0].numpy(), raw.logits[0, :, class_id].sigmoid().numpy()
    products = []
    for (x1, y1, x2, y2), probability in zip(boxes, p, strict=True):
        inter = max(min(x2, box[2]) - max(x1, box[0]), 0) * max(min(y2, box[3]) - max(y1, box[1]), 0)
        products.append(probability * inter / ((x2 - x1) * (y2 - y1) + 60 * 70 - inter))
    anchor, product = raw.tracked_anchor(0, box, class_id)
    assert anchor == int(np.argmax(products))
    assert product == pytest.approx(max(products), rel=1e-4)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "gradcamm"}, "no method 'gradcamm'; did you mean 'gradcam'"),
        ({"layers": "model.99"}, "no layer 'model.99' in this model; did you mean 'model.9'"),
        ({"layers": ""}, "no layer ''"),
        ({"layers": []}, "no layer was named"),
        ({"layers": "model.22.dfl"}, r"layer 'model.22.dfl' \(DFL\) gives a tensor of shape"),
        ({"layers": "model.0.act"}, "runs more than once"),
        ({"target": "objectness"}, "no objectness score"),
        ({"target": "klass"}, "no target 'klass'; did you mean 'class'"),
        ({"target": "contrast:kit"}, "no class 'kit' in this model; did you mean 'kite'"),
        ({"classes": ["dog"]}, "no class 'dog' in this model; known: ball, crate, cone, kite, gem"),
        ({"classes": [7]}, "no class 7: this model's classes run from 0 to 4"),
        ({"conf": 1.5}, r"conf must lie in \[0, 1\], got 1.5"),
        ({"max_det": 0}, "max_det must be a whole number, at least 1, got 0"),
        ({"max_det": 2.5}, "max_det must be a whole number"),
        ({"classes": []}, "classes is empty"),
        ({"classes": "dog"}, "no class 'dog'"),
        ({"layers": None}, "no layer was named"),
        ({"detection": [0.7]}, "whole numbers counted from 0"),
        ({"detection": True}, "whole numbers counted from 0"),
        ({"detection": 0, "box": [0, 0, 9, 9], "class_name": "kite"}, "give one of the two"),
        ({"box": [0, 0, 10, 10]}, "a class its box: give both"),
        ({"box": [10, 0, 0, 10], "class_name": "kite"}, "x1 < x2"),
        ({"detection": -1}, "counted from 0"),
    ],
)
def test_wrong_choices_say_what_would_be_right(scene_image, demo_detector, choices, message):
    with pytest.raises(UsageError, match=message):
        detcam.explain(demo_detector, scene_image, **choices)


def test_a_box_outside_the_image_is_refused(scene_image, demo_detector):
    with pytest.raises(InputError, match="lies outside the image, which is 256 x 256"):
        detcam.explain(demo_detector, scene_image, box=[900, 900, 950, 950], class_name="kite", method="layercam")


def test_an_image_without_detections_is_an_empty_result(demo_detector):
    result = detcam.explain(demo_detector, np.zeros((64, 64, 3), np.uint8), method="layercam")
    assert list(result) == []
    assert result.plot().ndim == 3


def test_targets_ask_different_questions(scene_image, demo_detector):
    maps = {
        target: detcam.explain(demo_detector, scene_image, target=target, detection=0, method="layercam")[
            0
        ].heatmap.array
        for target in ("class", "left", "right", "contrast:ball")
    }
    assert np.corrcoef(maps["left"].ravel(), maps["right"].ravel())[0, 1] < 0.9
    assert not np.allclose(maps["class"], maps["contrast:ball"], atol=1e-3)


def graphs():
    """Tensors that hold on to an autograd graph, and leaves that would start one, by identity."""
    gc.collect()
    tensors = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
    return {id(t) for t in tensors if t.grad_fn is not None or t.requires_grad}


def test_the_graph_is_gone_when_the_result_is_there(scene_image):
    before = graphs()
    explainer = detcam.Explainer(WEIGHTS, method="layercam")
    result = explainer(scene_image)
    assert len(result[0])
    assert graphs() <= before


def test_bounds_of_the_gradient_around_a_box():
    gradient = torch.zeros(3, 10, 10)
    gradient[1, 2, 3] = gradient[0, 6, 7] = 1  # rows 2 .. 6 and columns 3 .. 7 of cells of 8 pixels
    assert gradient_support(gradient) == pytest.approx(0.02)
    for box, share in (
        ((24, 16, 64, 56), 1),
        ((24, 16, 72, 56), 40 / 48),
        ((-9, 0, 24, 80), 0),
        ((4, 6, 64, 56), 0.8 * 2 / 3),
    ):
        assert box_reach(gradient, torch.tensor(box, dtype=torch.float), (80, 80)) == pytest.approx(share)
    assert box_reach(torch.zeros(3, 10, 10), torch.tensor([24.0, 16, 63, 55]), (80, 80)) == 0


def test_auto_leaves_out_the_stages_whose_gradient_reaches_less_than_half_of_the_box(all_levels):
    detector, image, settings = all_levels
    explained = {
        layers: detcam.explain(detector, image, layers=layers, **settings, method="layercam")
        for layers in ("auto", "backbone")
    }
    assert all(e.support == () for e in detcam.explain(detector, image, method="eigencam", **settings))
    dropped = 0
    for auto, every in zip(explained["auto"], explained["backbone"], strict=True):
        assert len(auto.support) == len(auto.layers)
        assert all(0 < share <= 1 for share in auto.support)
        assert set(auto.layers) <= set(every.layers)
        dropped += len(every.layers) - len(auto.layers)
    print(
        f"{dropped} layers of {sum(len(e.layers) for e in explained['backbone'])} reached less than half of their boxes"
    )


@pytest.mark.parametrize(
    ("choices", "method"),
    [
        ({}, "effect"),
        ({"target": "left"}, "effect"),
        ({"layers": "neck"}, "layercam"),
        ({"target": "combined"}, "layercam"),
        ({"smoothing": "noise"}, "layercam"),
        ({"fusion": "max"}, "layercam"),
    ],
)
def test_auto_is_the_method_that_wins_and_one_at_layers_where_layers_are_asked_for(demo_detector, choices, method):
    assert detcam.Explainer(demo_detector, **choices).method_name == method
    assert detcam.Explainer(demo_detector, "auto", **choices).method_name == method
