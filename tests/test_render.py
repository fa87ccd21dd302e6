import math
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

import detcam
from detcam.adapters.answers import corners_of
from detcam.demo import demo_scenes
from detcam.demo.scenes import GEM, render
from detcam.drawing.fonts import typeface, wrapped
from detcam.drawing.heat import shown_heat
from detcam.drawing.labels import find_place
from detcam.drawing.pages import FIRST_PAGE_TILES, MOST_TILES, PAGE_TILES, _count
from detcam.drawing.render import (
    BOX_COLOUR,
    EVIDENCE_COLOUR,
    blend,
    captioned,
    colourmap,
    draw_contours,
    drawable,
    is_small,
    pages,
    panel,
    together,
    write_image,
    zoom,
    zoom_window,
)
from detcam.drawing.view import View
from detcam.drawing.words import note_of, shown_sentence
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.types import Detection, Evidence, Explanation, Heatmap, ImageResult, Receipt

IMAGE = np.full((90, 160, 3), 128, np.uint8)


def explanation(raw, xyxy=(20, 20, 80, 70), status="ok", name="cat", image=IMAGE):
    letterbox = Letterbox.fit(image.shape[:2], (96, 160), 32)
    detection = Detection(xyxy, 0, name, 0.9, 3, 8)
    return Explanation(detection, Heatmap(raw, letterbox), "layercam", "class", ("model.4",), status, "", image)


def hot(row, column):
    raw = np.zeros((12, 20), np.float32)
    raw[row, column] = 1
    return raw


def test_nothing_hot_leaves_the_photograph_and_hot_pixels_take_the_colour():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    image = np.full((4, 4, 3), 100, np.uint8)
    picture = blend(image, heat, "viridis", opacity=1)
    assert (picture[0, 0] == 100).all()
    assert np.abs(picture[1, 2] - colourmap("viridis")[255]).max() <= 1
    assert (image == 100).all()
    assert (blend(image, heat, opacity=0) == 100).all()


def test_a_large_image_is_blended_as_its_parts_are():
    rng = np.random.default_rng(0)
    image, heat = rng.integers(0, 256, (1301, 7, 3)).astype(np.uint8), rng.random((1301, 7)).astype(np.float32)
    parts = [blend(image[top : top + 100], heat[top : top + 100]) for top in range(0, 1301, 100)]
    assert np.array_equal(blend(image, heat), np.concatenate(parts))


def test_the_overlay_is_hot_where_the_map_is():
    cold, warm = explanation(np.zeros((12, 20), np.float32)), explanation(hot(5, 6))
    changed = np.argwhere((cold.plot() != warm.plot()).any(-1))
    assert np.abs(changed.mean(0) - [5.5 * 8 - 3, 6.5 * 8]).max() < 3  # three rows of padding above the image
    assert warm.plot().shape == IMAGE.shape
    assert warm.plot().dtype == np.uint8


def test_a_jet_map_and_opacity_are_available():
    e = explanation(hot(5, 6))
    assert not np.array_equal(e.plot("jet"), e.plot())
    assert not np.array_equal(e.plot(opacity=0.2), e.plot())
    with pytest.raises(UsageError, match="did you mean 'viridis'"):
        e.plot("viridiss")
    with pytest.raises(UsageError, match="opacity must lie in"):
        e.plot(opacity=2)


@pytest.mark.parametrize(
    "xyxy", [(0, 0, 160, 90), (150, 80, 160, 90), (0, 0, 1, 1), (80, 40, 80, 40), (90, 50, 60, 20)]
)
def test_boxes_anywhere_can_be_drawn_and_zoomed(xyxy):
    e = explanation(hot(5, 6), xyxy)
    assert e.plot().shape == IMAGE.shape
    assert max(zoom(e, side=200).shape) == 200
    assert is_small(e) == (xyxy not in {(0, 0, 160, 90), (90, 50, 60, 20)})


def test_the_zoom_shows_the_box_where_it_is():
    e = explanation(np.zeros((12, 20), np.float32), (70, 40, 80, 50))
    x1, y1, x2, y2 = zoom_window(e)
    assert (x1, y1, x2, y2) == (51, 21, 99, 69)  # 48 pixels about (75, 45)
    picture = zoom(e, side=480)
    rows, columns = np.nonzero((picture == BOX_COLOUR).all(-1))
    assert np.abs(np.array([columns.min(), rows.min(), columns.max(), rows.max()]) - [190, 190, 290, 290]).max() <= 2


def test_the_zoom_shows_the_evidence_too():
    e = replace(explanation(hot(5, 6), (70, 40, 80, 50)), evidence=evidence([0, 0, 9, 9], [140, 70, 150, 80]))
    assert zoom_window(e) == (0, 0, 154, 84)  # a sixth of half the window beyond them
    assert (zoom(e) == EVIDENCE_COLOUR).all(-1).sum() > 100


def test_rotated_boxes_masks_and_keypoints_are_drawn():
    plain = explanation(hot(5, 6))
    corners = np.array([[50, 10], [90, 40], [70, 60], [30, 30]], np.float32)
    keypoints = np.array([[60, 30, 0.9], [100, 40, 0.1]], np.float32)
    for shape in ({"polygons": (corners,)}, {"polygons": (corners[:3], corners[1:])}, {"keypoints": keypoints}):
        e = replace(plain, detection=replace(plain.detection, **shape))
        changed = np.argwhere((e.plot() != plain.plot()).any(-1))
        assert len(changed)
        assert not np.array_equal(zoom(e), zoom(plain))
    rotated = replace(plain, detection=replace(plain.detection, polygons=(corners,))).plot()
    assert (rotated[20, 60:70] != BOX_COLOUR).any(-1).all()  # not its upright box
    shown = replace(plain, detection=replace(plain.detection, keypoints=keypoints)).plot()
    assert (shown[30, 60] == BOX_COLOUR).all()
    assert np.array_equal(shown[38:43, 98:103], plain.plot()[38:43, 98:103])  # an invisible point is not drawn


def test_a_rotated_box_is_zoomed_upright():
    plain = explanation(np.zeros((12, 20), np.float32))
    corners = corners_of(np.array([80, 45, 40, 20, 0.5])).astype(np.float32)
    picture = zoom(replace(plain, detection=replace(plain.detection, polygons=(corners,))), side=480)
    rows, columns = np.nonzero((picture == BOX_COLOUR).all(-1))
    edges = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert np.abs(np.array(edges) - [160, 200, 320, 280]).max() <= 2  # a third of the picture wide, half that high


def test_an_image_of_one_pixel():
    letterbox = Letterbox.fit((1, 1), (32, 32), 32)
    pixel = np.zeros((1, 1, 3), np.uint8)
    detection, heatmap = Detection((0, 0, 1, 1), 0, "x", 0.5, 0, 8), Heatmap(np.ones((4, 4)), letterbox)
    e = Explanation(detection, heatmap, "random", "class", ("a",), "ok", "", pixel)
    assert e.plot().shape == (1, 1, 3)
    assert zoom(e).ndim == 3


@pytest.mark.parametrize("name", ["<img src=x>", "a" * 80, "été 猫 قط", "$x^2$", ""])
def test_any_class_name_can_be_drawn(name):
    e = explanation(hot(5, 6), name=name)
    result = ImageResult("x.png", IMAGE, (e.detection,), (e,))
    assert e.plot().shape == IMAGE.shape
    assert result.plot().shape[2] == 3


def test_a_character_no_font_has_becomes_a_square():
    assert drawable("caf\u00e9 \U0010ffff") == "caf\u00e9 \u25a1"
    assert drawable("cat\ndog") == "cat\ndog"


def test_the_panel_says_what_it_leaves_out(scene_image, demo_detector):
    result = detcam.explain(demo_detector, scene_image, conf=0.0, max_det=60, method="layercam")
    assert len(result) == 60
    made = pages(result)
    assert len(made) == 1 + math.ceil((MOST_TILES - FIRST_PAGE_TILES) / PAGE_TILES)
    assert all(page.dtype == np.uint8 and page.shape[1] == made[0].shape[1] for page in made)
    assert max(len(page) for page in made) < 2000
    assert np.array_equal(made[0], panel(result))
    assert "12 less confident" in _count(result, result.explanations[:MOST_TILES])


def test_pictures_are_written_as_their_suffix_says(tmp_path):
    e = explanation(hot(5, 6))
    e.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.array(picture), captioned(e))
    e.save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"no picture format ends in '\.mp9'; use \.png or \.jpg"):
        write_image(tmp_path / "a.mp9", IMAGE)


def evidence(*patches, becomes="gem"):
    return Evidence(np.array(patches), becomes, 0.98, 0.9, 0.1, 0.88, 0.5)


def receipt(supported):
    return Receipt(0.9, 0.02, {"blur": 0.1}, {"blur": 0.8}, {}, {}, {}, {}, 0.3, supported, 8)


def marked():
    """The demo's gem with its mark, explained by a map that is hottest at the mark."""
    scene = demo_scenes()["4-same-gem-mark-added"]
    gem = next(thing for thing in scene.things if thing.class_id == GEM)
    x1, y1, x2, y2 = gem.mark_xyxy
    rows, columns = np.indices((256, 256))
    raw = np.exp(-((columns - (x1 + x2) / 2) ** 2 + (rows - (y1 + y2) / 2) ** 2) / 60).astype(np.float32)
    raw[raw < 0.05] = 0
    image = render(scene)
    letterbox = Letterbox.fit(image.shape[:2], image.shape[:2], 32)
    detection = Detection(gem.xyxy, 0, "kite", 0.92, 3, 8)
    return Explanation(
        detection,
        Heatmap(raw, letterbox),
        "layercam",
        "class",
        ("a",),
        "ok",
        "",
        image,
        evidence=evidence(gem.mark_xyxy),
    )


def luminance(picture):
    return picture.astype(float) @ [0.299, 0.587, 0.114]


def test_lines_around_the_hottest_place_show_on_the_chequered_mark():
    e = marked()
    x1, y1, x2, y2 = e.evidence.xyxy
    picture = e.image.copy()
    draw_contours(picture, shown_heat(e), 2)
    change = np.abs(luminance(picture) - luminance(e.image))[y1:y2, x1:x2]
    assert (change > 60).sum() >= 40  # pixels of the 18 x 18 mark
    drawn = luminance(picture)[y1:y2, x1:x2][change > 60]
    assert drawn.min() < 40  # a dark rim
    assert drawn.max() > 220  # a light line


def test_lines_around_most_of_a_picture_are_left_out():
    picture, heat = np.full((100, 100, 3), 90, np.uint8), np.full((100, 100), 0.5, np.float32)
    heat[40:60, 40:60] = 1
    draw_contours(picture, heat, 2)
    assert (picture[:5] == 90).all()  # half as hot everywhere
    assert (picture[30:70, 30:70] != 90).any()


def test_where_heat_is_zero_the_photograph_is_untouched_but_for_box_evidence_and_labels():
    e = replace(marked(), evidence=None)
    untouched = (e.plot() == e.image).all(-1)
    x1, y1, x2, y2 = (round(float(v)) for v in e.detection.xyxy)
    away = shown_heat(e) == 0
    away[y1 - 24 : y2 + 24, x1 - 24 : x2 + 24] = False  # the box with its label
    assert away.mean() > 0.5
    assert untouched[away].all()
    assert untouched[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6].all()  # nor is anything within the box
    assert not untouched[shown_heat(e) > 0.3].any()


def test_the_evidence_is_outlined_on_all_sides_and_stays_visible():
    e = replace(marked(), status="no_signal")
    x1, y1, x2, y2 = e.evidence.xyxy
    picture = e.plot()
    assert np.array_equal(picture[y1:y2, x1:x2], e.image[y1:y2, x1:x2])
    blue = (picture == EVIDENCE_COLOUR).all(-1)
    above, below = blue[y1 - 7 : y1, x1:x2], blue[y2 : y2 + 7, x1:x2]
    left, right = blue[y1:y2, x1 - 7 : x1], blue[y1:y2, x2 : x2 + 7]
    assert all(side.any() for side in (above, below, left, right))


@pytest.mark.parametrize("seed", range(40))
def test_labels_never_cover_evidence_or_each_other(seed):
    rng = np.random.default_rng(seed)
    shape, extent = (int(rng.integers(40, 400)), int(rng.integers(40, 400))), np.array([70.0, 18.0])
    corners = rng.uniform(0, 1, (5, 2, 2)) * [shape[1], shape[0]]
    patches = list(np.concatenate([corners.min(1), corners.max(1)], 1))
    taken, heat = patches[:2], rng.random(shape).astype(np.float32)
    for beside in patches:
        place = find_place(extent, beside, (*shape, 3), heat, taken, patches, 3)
        if place is None:
            continue
        assert (place[:2] >= 0).all()
        assert (place[2:] <= [shape[1], shape[0]]).all()
        for x1, y1, x2, y2 in taken:
            assert place[0] >= x2 or place[2] <= x1 or place[1] >= y2 or place[3] <= y1
        taken = [*taken, place]


def test_a_label_stands_off_what_is_hot_and_not_far_away():
    heat, box, extent = np.zeros((200, 200), np.float32), np.array([60.0, 60, 140, 140]), np.array([60.0, 16])
    assert find_place(extent, box, heat.shape, heat, [], [box], 2).tolist() == [60, 42, 120, 58]
    heat[:60] = 1
    assert find_place(extent, box, heat.shape, heat, [], [box], 2)[1] == 142
    whole = np.array([0.0, 0, 200, 200])
    assert find_place(extent, box, heat.shape, heat, [whole], [box], 2) is None
    near = np.array([0.0, 0, 200, 190])
    assert find_place(extent, np.array([0.0, 0, 10, 10]), (300, 200), None, [near], [], 2) is None


def test_what_becomes_of_the_box_is_said_beside_the_evidence():
    e = marked()
    ground = (e.plot() == EVIDENCE_COLOUR).all(-1).sum()
    alone = (together(ImageResult("x", e.image, (e.detection,), (e,))) == EVIDENCE_COLOUR).all(-1).sum()
    assert ground > alone + 500  # in a video, the outline alone


def test_the_sentence_stands_below_the_picture_wrapped_to_its_width():
    image = np.full((480, 640, 3), 90, np.uint8)
    plain = replace(explanation(hot(5, 6), (60, 60, 300, 300), image=image), sentence="A short one.")
    long = replace(plain, sentence="The detector needs this part " * 8)
    first, second = captioned(plain), captioned(long)
    assert np.array_equal(first[:480], plain.plot())
    assert first.shape[1] == second.shape[1] == 640
    assert len(first) > 480 + 30
    lines = (len(second) - len(first)) / 20
    assert lines == len(wrapped(long.sentence, 15, 620, 9)) - 1 > 1
    strip = luminance(second[480:])
    assert strip.max() == 255
    assert (strip < 60).sum() > 1000  # letters
    assert (strip[:, -4:] > 250).all()  # none is cut


def test_lines_are_no_wider_than_asked_and_say_where_something_is_missing():
    text = "a word and averyveryverylongwordthatfitsnoline and more " * 3
    lines = wrapped(text, 14, 120, 100)
    assert max(typeface(line, 14).getlength(line) for line in lines) <= 120
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert wrapped(text, 14, 120, 2)[-1].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert wrapped("", 14, 120, 2) == []


def test_a_tiny_image_is_enlarged_for_its_caption_and_not_for_its_array():
    e = marked()
    assert e.plot().shape == (256, 256, 3)
    picture = captioned(e)
    assert picture.shape[1] == 768
    assert len(picture) > 768


def test_status_check_target_and_method_are_said_in_plain_words():
    e = explanation(hot(5, 6))
    assert shown_sentence(replace(e, sentence="So.")) == "So."
    assert shown_sentence(replace(e, sentence="")) == "cat 0.90: a map by layercam, not checked against the detector."
    lost = evidence([1, 2, 3, 4], [5, 5, 9, 9], becomes=None)
    assert "both outlined patches" in shown_sentence(replace(e, sentence="", evidence=lost))
    assert note_of(e) == "map not checked \N{MIDDLE DOT} layercam"
    assert "\N{CHECK MARK} map supported" in note_of(replace(e, receipt=receipt(True)))
    assert "map not supported" in note_of(replace(e, status="unsupported", receipt=receipt(False)))
    assert "target box" in note_of(replace(e, target="box"))
    assert "(odam took over)" in note_of(replace(e, reason="odam took over"))


@pytest.mark.parametrize("status", ["no_signal", "no_evidence"])
def test_where_a_map_means_nothing_none_is_drawn(status):
    e, cold = explanation(hot(5, 6), status=status), explanation(np.zeros((12, 20), np.float32))
    assert np.array_equal(e.plot(), cold.plot())
    assert not np.array_equal(e.plot(), explanation(hot(5, 6)).plot())


def test_points_of_a_view_lie_where_the_photograph_shows_them():
    image = np.zeros((90, 160, 3), np.uint8)
    image[40:44, 100:104] = 255
    for view in (View.fitted((80, 20, 140, 60), 300, 300), View((80, 20, 120, 60), (200, 200), 30)):
        rows, columns = np.nonzero(view.photograph(image)[..., 0] > 127)
        centre = [columns.mean() + 0.5, rows.mean() + 0.5]
        assert view.points(np.array([[102, 42]]))[0] == pytest.approx(centre, abs=1)
        heat = (image[..., 0] / 255).astype(np.float32)
        rows, columns = np.nonzero(view.heat(heat, image.shape) > 0.5)
        assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(centre, abs=1)


def cpu_seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def test_a_panel_of_twenty_boxes_is_quick_and_small(tmp_path):
    rng = np.random.default_rng(0)
    image = cv2.resize(render(demo_scenes()["1-kite-with-its-mark"]), (640, 480), interpolation=cv2.INTER_CUBIC)
    made = []
    for x, y in rng.uniform(0, 400, (20, 2)):
        raw = np.maximum(rng.normal(0, 1, (60, 80)), 0).astype(np.float32)
        one = explanation(raw, (x, y, x + 90, y + 70), image=image)
        made.append(replace(one, evidence=evidence([x, y, x + 40, y + 30]), sentence="It rests on this part. " * 4))
    result = ImageResult("twenty.jpg", image, tuple(e.detection for e in made), tuple(made))
    picture, file = panel(result), tmp_path / "panel.png"

    def draw_and_write():
        write_image(file, panel(result), small=True)

    work, plain = (
        min(cpu_seconds(function) for _ in range(3))
        for function in (draw_and_write, lambda: Image.fromarray(picture).save(tmp_path / "plain.png"))
    )
    size = file.stat().st_size
    print(f"panel of 20 boxes: {work:.3f} s of CPU, {work / plain:.1f} times a plain PNG, {size / 1000:.0f} kB")
    assert work < 6 * plain  # two to three times: a quarter is drawing, the rest dithering and the file
    assert size <= 500_000  # dithered: without it 340 kB, and every sky in bands
    with Image.open(file) as written:
        assert np.abs(np.array(written.convert("RGB")).astype(int) - picture).mean() < 8
