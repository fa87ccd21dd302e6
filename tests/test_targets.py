"""Targets on raw output in which every number differs, so that a number from another place is noticed."""

import pytest
import torch

from detcam.adapters.base import RawOutput
from detcam.errors import UsageError
from detcam.options import find_classes
from detcam.targets import (
    TARGETS,
    Contrast,
    find_target,
    hold_target,
    iou,
    mask_area,
    mirror_target,
    resolve_target,
    target_parts,
)
from detcam.types import Detection

NAMES = {0: "cat", 1: "dog", 2: "7"}
INDEX, DETECTION = 1, Detection((0, 0, 1, 1), 1, "dog", 0.5, 2, 8)  # of the second image the third anchor


def counted(*shape, first):
    """Numbers that all differ: first, first + 0.01, ..."""
    return first + 0.01 * torch.arange(torch.tensor(shape).prod()).reshape(shape)


def raw_of(boxes=None, objectness=True, extras=None, size=(16, 16)):
    logits, sides = counted(2, 3, 3, first=-0.1), counted(2, 3, 4, first=5.0)
    boxes = torch.zeros(2, 3, 4) if boxes is None else boxes
    present = counted(2, 3, first=0.3) if objectness else None
    return RawOutput(logits, boxes, sides, torch.full((3,), 8.0), {}, present, extras or {}, size)


def value_of(name, raw):
    return find_target(name, NAMES)(raw, INDEX, DETECTION)


def box_at(*box):
    """Boxes of which only the detection's is not empty."""
    boxes = torch.zeros(2, 3, 4)
    boxes[INDEX, DETECTION.anchor] = torch.tensor(box)
    return boxes


def test_each_target_is_one_number_of_the_detections_own_anchor():
    raw = raw_of()
    logit, present = raw.logits[1, 2, 1], raw.objectness[1, 2]
    left, top, right, bottom = raw.sides[1, 2]
    expected = {
        "class": logit,
        "against": -logit,
        "probability": logit.sigmoid(),
        "objectness": present,
        "score": logit.sigmoid() * present.sigmoid(),
        "left": left,
        "top": top,
        "right": right,
        "bottom": bottom,
        "box": left + top + right + bottom,
        "contrast:cat": logit - raw.logits[1, 2, 0],
        "contrast:2": logit - raw.logits[1, 2, 2],
    }
    for name, value in expected.items():
        assert value_of(name, raw).item() == pytest.approx(value.item()), name
    assert expected.keys() >= set(TARGETS.builtin) - {"iou", "mask"}


def test_without_objectness_the_score_is_the_class_probability():
    raw = raw_of(objectness=False)
    assert value_of("score", raw) == value_of("probability", raw)
    with pytest.raises(UsageError, match="has no objectness score"):
        value_of("objectness", raw)


def test_the_iou_of_a_box_with_itself_falls_where_a_side_moves_inwards():
    boxes = box_at(10.0, 20.0, 40.0, 60.0).requires_grad_()
    value = iou(raw_of(boxes), INDEX, DETECTION)
    assert value.item() == 1
    (gradient,) = torch.autograd.grad(value, boxes)
    assert gradient[INDEX, DETECTION.anchor].tolist() == pytest.approx([-1 / 30, -1 / 40, 1 / 30, 1 / 40])
    assert gradient.count_nonzero() == 4


@pytest.mark.parametrize("box", [(10.0, 10.0, 10.0, 30.0), (30.0, 10.0, 10.0, 20.0), (30.0, 20.0, 10.0, 10.0)])
def test_a_box_without_area_overlaps_nothing_not_even_itself(box):
    raw = raw_of(box_at(*box))
    assert iou(raw, INDEX, DETECTION).item() == 0
    assert hold_target(iou, raw, INDEX, DETECTION)(raw, INDEX, DETECTION).item() == 0


@pytest.mark.parametrize(
    ("box", "expected"),
    [((10, 20, 40, 60), 1), ((40, 20, 10, 60), 0),
     ((20, 20, 50, 60), 1 / 2), ((10, 40, 40, 80), 1 / 3), ((20, 30, 30, 40), 1 / 12),
     ((0, 0, 80, 80), 3 / 16), ((50, 20, 60, 60), 0), ((50, 70, 60, 80), 0)],
)  # fmt: skip
def test_in_a_changed_image_the_iou_is_with_the_box_as_it_was(box, expected):
    target = hold_target(iou, raw_of(box_at(10.0, 20.0, 40.0, 60.0)), INDEX, DETECTION)
    assert target(raw_of(box_at(*map(float, box))), INDEX, DETECTION).item() == pytest.approx(expected)


def masks(box, coefficients=(1.0, 0.0), shape=(4, 6), size=(16, 24)):
    """Raw output of an input of 16 x 24 pixels, 4 to a cell; its first prototype is counted, its second -1."""
    prototypes = torch.zeros(2, 2, *shape)
    prototypes[INDEX, 0] = torch.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape)
    prototypes[INDEX, 1] = -1
    weights = torch.zeros(2, 3, 2)
    weights[INDEX, DETECTION.anchor] = torch.tensor(coefficients)
    return raw_of(box_at(*map(float, box)), extras={"mask": weights, "prototypes": prototypes}, size=size)


@pytest.mark.parametrize(
    ("box", "coefficients", "expected"),
    [
        ((4, 4, 12, 8), (1, 0), (8 + 9) / 2),  # second row, second and third column
        ((4, 4, 8, 16), (1, 0), (8 + 14 + 20) / 3),
        ((6, 2, 10, 6), (1, 0), (2 + 3 + 8 + 9) / 4),  # a cell whose centre is on the box's edge is in it
        ((4, 4, 12, 8), (1, 8), 9 - 8),  # of positive logits
        ((4, 4, 12, 8), (1, 8.5), 9 - 8.5),
        ((4, 4, 12, 8), (1, 9), (8 + 9) / 2 - 9),  # none is, so of all
        ((5, 5, 5.5, 5.5), (1, 0), 0),  # no cell's centre
    ],
)
def test_the_mask_target_is_the_mean_logit_of_the_masks_cells_in_the_box(box, coefficients, expected):
    assert mask_area(masks(box, coefficients), INDEX, DETECTION).item() == pytest.approx(expected)


def test_a_cell_may_be_as_large_as_two_pixels_and_a_half():
    raw = masks((2.5, 2.5, 7.5, 5), size=(10, 15))
    assert mask_area(raw, INDEX, DETECTION).item() == pytest.approx((8 + 9) / 2)


def test_in_a_changed_image_the_mask_is_that_of_the_image_as_it_was():
    target = hold_target(mask_area, masks((4, 4, 12, 8)), INDEX, DETECTION)
    changed = masks((0, 0, 24, 16), (0, 1))
    assert target(changed, INDEX, DETECTION).item() == -1
    assert target(masks((0, 0, 24, 16), (2, 0)), INDEX, DETECTION).item() == pytest.approx(8 + 9)
    assert hold_target(TARGETS["class"], changed, INDEX, DETECTION) is TARGETS["class"]


def test_keypoints_are_by_number_and_part():
    points = counted(2, 3, 4, 3, first=1.0)
    raw = raw_of(extras={"keypoints": points})
    for number in (0, 3):
        for part, place in (("x", 0), ("y", 1), ("visible", 2)):
            assert value_of(f"keypoint:{number}:{part}", raw) == points[1, 2, number, place]
        assert value_of(f"keypoint:{number}", raw) == points[1, 2, number, 2]
    with pytest.raises(UsageError, match=r"no keypoint 4: this model's run from 0 to 3$"):
        value_of("keypoint:4", raw)
    flat = raw_of(extras={"keypoints": points[..., :2]})
    assert value_of("keypoint:3:y", flat) == points[1, 2, 3, 1]
    with pytest.raises(UsageError, match="no visibility"):
        value_of("keypoint:3", flat)
    for name, what in (("keypoint:0", "no keypoints"), ("mask", "no masks")):
        with pytest.raises(UsageError, match=what):
            value_of(name, raw_of())


def test_classes_are_found_by_name_and_by_index():
    assert find_classes(["dog", 0, "1"], NAMES) == [1, 0, 1]
    assert find_classes(["7", 7], NAMES) == [2, 2], "a class that is called a number"
    with pytest.raises(UsageError, match="no class 3: this model's classes run from 0 to 2"):
        find_classes([3], NAMES)
    with pytest.raises(UsageError, match="no class 'cow'"):
        find_classes(["cow"], NAMES)
    with pytest.raises(UsageError, match="no class 'dgo' in this model; did you mean 'dog'"):
        find_classes(["dgo"], NAMES)


def test_a_contrast_is_equal_to_another_with_the_same_class():
    assert find_target("contrast:7", NAMES) == Contrast(2)
    assert Contrast(2) != Contrast(0)
    assert len({Contrast(2), Contrast(2), Contrast(0)}) == 2


def test_what_targets_are_in_an_image_that_is_flipped():
    same = ("class", "against", "top", "bottom", "box", "iou", "mask", "score", "contrast:cat")
    assert [mirror_target(name) for name in same] == list(same)
    assert (mirror_target("left"), mirror_target("right")) == ("right", "left")
    with pytest.raises(UsageError, match="cannot be averaged over flipped images"):
        mirror_target("keypoint:3")


def own(raw, index, detection):
    return raw.logits[index, detection.anchor, 0]


def test_targets_of_others_are_refused_where_they_are_averaged_over_flipped_images(doors):
    TARGETS.add("mine", own)
    for given, name in (("mine", "mine"), (own, "own")):
        with pytest.raises(UsageError, match=f"what target '{name}' is in a flipped image is not known"):
            mirror_target(given)


def test_a_target_is_called_by_its_name(doors):
    assert resolve_target("anything") == ("anything", "anything")
    assert resolve_target(iou) == ("iou", "iou")
    assert resolve_target(own) == ("own", own)
    TARGETS.add("mine", own)
    assert resolve_target(own) == ("mine", "mine")
    with pytest.raises(UsageError, match="a target is a name or a function"):
        resolve_target(7)

    def left(raw, index, detection):
        return own(raw, index, detection)

    with pytest.raises(UsageError, match="there is already a target 'left'"):
        resolve_target(left)


def test_what_a_function_gives_has_to_be_a_scalar_tensor(doors):
    raw = raw_of()
    assert find_target(own, NAMES)(raw, INDEX, DETECTION) == raw.logits[1, 2, 0]
    for number, (given, what) in enumerate(((raw.logits[0, 0], r"a tensor \(3,\)"), (0.5, "a float"))):
        TARGETS.add(f"mine{number}", lambda *_, given=given: given)
        for asked in (f"mine{number}", TARGETS[f"mine{number}"]):
            with pytest.raises(UsageError, match=f"has to give a scalar tensor, and gave {what}"):
                find_target(asked, NAMES)(raw, INDEX, DETECTION)


def test_combined_stands_for_the_class_and_the_sides():
    assert target_parts("combined") == ("class", "left", "top", "right", "bottom")
    assert target_parts("class") == ("class",)
    assert target_parts(iou) == (iou,)
