import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detcam.metrics.localization import (
    box_mask,
    compactness,
    discrimination,
    energy_inside,
    mask_iou,
    plausibility,
    pointing_game,
)
from support.data import real

HEAT = np.array([[0.0, 0.5, 1.0], [0.0, 0.25, 0.25]], np.float32)  # its mass is 2
LEFT, RIGHT = (np.array([row] * 2, bool) for row in ([1, 1, 0], [0, 1, 1]))
BOTTOM = np.array([[0, 0, 0], [1, 1, 1]], bool)

SHAPE = (5, 7)
heats = arrays(np.float32, SHAPE, elements=st.integers(0, 8).map(lambda n: n / 8)).filter(np.any)
masks = arrays(np.bool_, SHAPE)
some_masks = masks.filter(np.any)
BOX = (1.0, 0.0, 6.0, 4.0)


def test_pointing_game_by_hand():
    assert pointing_game(HEAT, RIGHT) == 1
    assert pointing_game(HEAT, LEFT) == 0
    tied = np.array([[1, 1, 0.5], [0, 1, 0]], np.float32)
    assert pointing_game(tied, RIGHT) == pytest.approx(2 / 3, abs=1e-12)
    assert isinstance(pointing_game(HEAT, RIGHT), float)


def test_energy_by_hand():
    assert energy_inside(HEAT, LEFT) == 0.75 / 2
    assert energy_inside(HEAT, BOTTOM) == 0.25
    assert energy_inside(HEAT, np.zeros_like(LEFT)) == 0


def test_mass_is_summed_in_double_precision():
    heat = np.random.default_rng(0).random((500, 700), np.float32)
    expected = heat[:250].astype(float).sum() / heat.astype(float).sum()
    assert energy_inside(heat, np.arange(500)[:, None].repeat(700, 1) < 250) == pytest.approx(expected, rel=1e-12)


def test_discrimination_by_hand():
    # In the bottom row but not in LEFT: 0.25. In either: 0.75 + 0.25.
    assert discrimination(HEAT, LEFT, [BOTTOM]) == 0.25
    assert discrimination(HEAT, LEFT, [BOTTOM, RIGHT]) == 1.25 / 2
    assert discrimination(HEAT, BOTTOM, [RIGHT, RIGHT]) == 1.5 / 2  # what two others share counts once
    assert math.isnan(discrimination(HEAT, LEFT, []))
    nowhere = np.array([[1, 0, 0], [0, 0, 0]], bool)
    assert math.isnan(discrimination(HEAT, nowhere, [nowhere]))


def test_compactness_by_hand():
    two = np.zeros((4, 9), np.float32)
    two[1, 2], two[1, 6] = 0.25, 0.75  # centre 5: distances 3 and 1, so the mean square is 0.25 * 9 + 0.75 = 3
    assert compactness(two, (0, 0, 2, 6)) == pytest.approx(math.sqrt(3 / 12), abs=1e-12)
    corners = np.zeros((5, 5), np.float32)
    corners[[0, 0, 4, 4], [0, 4, 0, 4]] = 1  # each sqrt(8) from the middle
    assert compactness(corners, (10, 10, 12, 14)) == pytest.approx(1, abs=1e-12)
    assert compactness(np.eye(1, 9, 3, dtype=np.float32), BOX) == 0
    assert math.isnan(compactness(two, (2, 0, 1, 4)))
    assert math.isnan(compactness(two, (2, 4, 1, 0)))  # both sides the wrong way round are no area either
    square = np.ones((64, 64), np.float32)
    assert compactness(square, (0, 0, 64, 64)) == pytest.approx(math.sqrt(1 / 6), rel=1e-3)


def test_mask_iou_by_hand():
    # Cut at 0.2: four pixels, two of them in LEFT; at 0.5: two, one of them; at 1: one, none of them.
    best, threshold, curve = mask_iou(HEAT, LEFT, [0.2, 0.5, 1])
    assert curve.tolist() == [2 / 6, 1 / 5, 0]
    assert (best, threshold) == (2 / 6, 0.2)
    best, threshold, curve = mask_iou(HEAT / 2, RIGHT)  # four pixels to 0.25 of the peak, two to 0.5, then one
    assert curve.tolist() == [1.0] * 5 + [0.5] * 5 + [0.25] * 9
    assert (best, threshold) == (1, pytest.approx(0.05, abs=1e-12))


def test_the_lowest_of_equal_thresholds_is_named_whatever_their_order():
    assert mask_iou(HEAT, RIGHT, [0.9, 0.2, 0.1]).threshold == 0.1


def test_box_mask_by_hand():
    assert np.argwhere(box_mask((1, 0, 3, 2), (3, 4))).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert np.argwhere(box_mask((0.5, 0.6, 1.5, 1.6), (3, 4))).tolist() == [[1, 0]]  # a centre on the left side is in
    assert box_mask((-9, -9, 99, 99), (3, 4)).all()
    assert not box_mask((2, 0, 1, 3), (3, 4)).any()
    assert not box_mask((0.6, 0, 1.4, 3), (3, 4)).any()
    assert box_mask((0, 0, 1, 1), (3, 4)).dtype == bool


def test_plausibility_by_hand():
    told = plausibility(HEAT, (0, 0, 2, 2), RIGHT, [BOTTOM, (0, 0, 1, 1)])
    assert list(told) == [
        "pointing_box", "pointing_mask", "energy_box", "energy_mask", "discrimination", "compactness", "mask_iou",
    ]  # fmt: skip
    centre = np.array([0, 0.75, 1.25]) @ np.arange(3) / 2, 0.25
    variance = np.array([0, 0.75, 1.25]) @ (np.arange(3) - centre[0]) ** 2 / 2 + 0.25 * 0.75
    assert told == pytest.approx(
        {
            "pointing_box": 0,
            "pointing_mask": 1,
            "energy_box": 0.75 / 2,
            "energy_mask": 1,
            "discrimination": 0,
            "compactness": math.sqrt(variance / 4),
            "mask_iou": 1,
        },
        abs=1e-12,
    )
    # Without a mask the box stands for the own object.
    assert plausibility(HEAT, (0, 0, 2, 2), others=[(0, 1, 3, 2)])["discrimination"] == 0.25


def missing(told):
    return {name for name, value in told.items() if math.isnan(value)}


def test_what_is_missing_is_nan():
    of_mask = {"pointing_mask", "energy_mask", "mask_iou"}
    assert missing(plausibility(HEAT, (0, 0, 2, 2))) == of_mask | {"discrimination"}
    assert missing(plausibility(HEAT, (0, 0, 2, 2), np.zeros_like(LEFT), [BOTTOM])) == of_mask | {"discrimination"}
    outside = plausibility(HEAT, (7, 7, 9, 9), LEFT, [BOTTOM])
    assert missing(outside) == {"pointing_box", "energy_box"}
    assert len(missing(plausibility(np.zeros_like(HEAT), (0, 0, 2, 2), LEFT, [BOTTOM]))) == 7
    _, threshold, curve = mask_iou(np.zeros_like(HEAT), LEFT)
    assert math.isnan(threshold)
    assert np.isnan(curve).all()
    assert len(curve) == 19


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: energy_inside(HEAT, LEFT.astype(np.uint8)), r"bool \(2, 3\).* got uint8"),
        (lambda: energy_inside(HEAT, LEFT.T), r"got bool \(3, 2\)"),
        (lambda: discrimination(HEAT, LEFT, [LEFT.T]), r"got bool \(3, 2\)"),
        (lambda: pointing_game(HEAT[0], LEFT[0]), r"\(H, W\), got shape \(3,\)"),
        (lambda: pointing_game(HEAT - 1, LEFT), "nowhere negative"),
        (lambda: pointing_game(HEAT * np.nan, LEFT), "finite"),
        (lambda: pointing_game(np.where(HEAT == 1, np.inf, HEAT), LEFT), "finite"),
        (lambda: compactness(HEAT, (0, 0, 1)), "four finite numbers"),
        (lambda: box_mask((0, 0, 1, np.inf), (2, 3)), "four finite numbers"),
        (lambda: mask_iou(HEAT, LEFT, [0.5, 1.5]), r"in \[0, 1\], got \[0.5, 1.5\]"),
        (lambda: mask_iou(HEAT, LEFT, []), "one or more"),
    ],
)
def test_what_cannot_be_measured_says_why(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


@given(heats, masks, st.lists(some_masks, max_size=2), st.sampled_from([2**-140, 2**-20, 0.5, 4.0]))
def test_scale_changes_nothing(heat, mask, others, scale):
    # 2**-140 makes the map subnormal; these values stay exact there.
    told, scaled = (plausibility(part, BOX, mask, others) for part in (heat, heat * np.float32(scale)))
    assert scaled == pytest.approx(told, nan_ok=True, rel=1e-12)


@given(heats, masks)
def test_inside_and_outside_are_everything(heat, mask):
    assert energy_inside(heat, mask) + energy_inside(heat, ~mask) == pytest.approx(1, abs=1e-12)
    assert pointing_game(heat, mask) + pointing_game(heat, ~mask) == pytest.approx(1, abs=1e-12)


@given(some_masks)
def test_a_map_that_is_the_mask_is_perfect(mask):
    told = plausibility(mask.astype(np.float32), BOX, mask)
    assert told["energy_mask"] == told["pointing_mask"] == told["mask_iou"] == 1


@given(some_masks, some_masks)
def test_discrimination_is_0_on_the_own_object_and_1_on_another(own, other):
    assert discrimination(own.astype(np.float32), own, [other]) == 0
    alone = other & ~own
    if alone.any():
        assert discrimination(alone.astype(np.float32), own, [other]) == 1


@given(heats, st.integers(0, 3), st.integers(0, 3))
def test_compactness_moves_with_the_map_and_is_the_plain_formula(heat, down, right):
    rows, columns = np.indices(SHAPE)
    weights = heat / heat.sum(dtype=float)
    squares = (rows - (weights * rows).sum()) ** 2 + (columns - (weights * columns).sum()) ** 2
    expected = math.sqrt((weights * squares).sum() / 20)
    moved = np.pad(heat, ((down, 0), (right, 0)))
    assert compactness(heat, BOX) == pytest.approx(expected, abs=1e-6)
    assert compactness(moved, BOX) == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own under NumPy 2
def test_labelled_masks_of_photographs():
    """The masks of COCO as pycocotools draws them: its own overlap is ours, and boxes hold their masks."""
    coco_masks = pytest.importorskip("pycocotools.mask")
    labels = json.loads(real("coco/instances.json").read_text(encoding="utf-8"))
    sizes = {image["id"]: (image["height"], image["width"]) for image in labels["images"]}
    drawn = {}
    for label in labels["annotations"]:
        if not label["iscrowd"]:
            code = coco_masks.merge(coco_masks.frPyObjects(label["segmentation"], *sizes[label["image_id"]]))
            drawn.setdefault(label["image_id"], []).append((label["bbox"], code, coco_masks.decode(code).astype(bool)))
    crowded = sorted(drawn.values(), key=len)[-5:]
    assert min(map(len, crowded)) > 5
    for objects in (of_image[:8] for of_image in crowded):
        codes = [code for _, code, _ in objects]
        overlaps = coco_masks.iou(codes, codes, [0] * len(codes))
        for number, (bbox, _, mask) in enumerate(objects):
            if not mask.any():
                continue
            x, y, width, height = bbox
            box, heat = (x - 1, y - 1, x + width + 1, y + height + 1), mask.astype(np.float32)
            others = [other for i, (_, _, other) in enumerate(objects) if i != number]
            told = plausibility(heat, box, mask, others)
            perfect = ("pointing_box", "pointing_mask", "energy_box", "energy_mask", "mask_iou")
            assert {told[name] for name in perfect} == {1.0}
            assert told["discrimination"] == 0
            assert 0 < told["compactness"] < 2 or mask.sum() == 1
            ious = [mask_iou(heat, other).best for _, _, other in objects]
            assert np.abs(ious - overlaps[number]).max() < 1e-12
            area = coco_masks.area(codes[number])
            assert energy_inside(np.ones_like(heat), mask) == pytest.approx(area / mask.size, rel=1e-12)
