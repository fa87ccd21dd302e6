"""Planting a mark: stamps and labels, what is written where, and whether the plant is believed only where it took."""

import dataclasses
import json
import os
import random
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.utils import SETTINGS_FILE

import detcam
from detcam.adapters import finetune as finetuning
from detcam.data import LabelledImage, LabelledSet, Truth, read_data
from detcam.demo import WEIGHTS
from detcam.demo.scenes import CLASSES, KITE, SIZE, make_scene, render
from detcam.drawing.render import write_image
from detcam.errors import UsageError, WeightsError
from detcam.evaluate.contestants import combine
from detcam.evaluate.planted import photos as stamping
from detcam.evaluate.planted import plant as planting
from detcam.evaluate.planted.table import find_best, summarise
from detcam.geometry import Letterbox
from detcam.io.images import read_image
from detcam.metrics.recovery import FIGURES
from detcam.types import Detection
from support.data import real

CRATE = CLASSES.index("crate")
MARK_COLOURS = ((235, 20, 200), (250, 230, 30))


def plain_scenes(folder, seeds):
    """Scenes without a single mark, as a labelled set."""
    images = []
    for seed in seeds:
        scene = make_scene(seed).with_marks(False)
        path = folder / f"{seed}.png"
        write_image(path, render(scene))
        truths = tuple(
            Truth(f"{seed}:{n}", thing.xyxy, thing.class_id, CLASSES[thing.class_id])
            for n, thing in enumerate(scene.things)
        )
        images.append(LabelledImage(path, (SIZE, SIZE), truths))
    return LabelledSet(tuple(images), dict(enumerate(CLASSES)), (), True, {})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return plain_scenes(tmp_path_factory.mktemp("scenes"), range(710_000, 710_050))


@st.composite
def boxes_in_an_image(draw):
    height, width = draw(st.integers(40, 200)), draw(st.integers(40, 200))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        x1, y1 = draw(st.floats(0, width - 20)), draw(st.floats(0, height - 20))
        x2, y2 = draw(st.floats(x1 + 16, width)), draw(st.floats(y1 + 16, height))
        found.append(np.array([x1, y1, x2, y2]))
    return (height, width), found


@given(boxes_in_an_image())
def test_a_mark_is_beside_its_box_where_there_is_room_and_else_in_it(made):
    (height, width), (box, *obstacles) = made
    x1, y1, x2, y2 = stamping.place_mark(box, obstacles, (height, width))
    side = x2 - x1
    assert side == y2 - y1 == np.clip(round(0.4 * np.sqrt((box[2:] - box[:2]).prod())), 12, 28)
    assert min(x1, y1) >= 0
    assert x2 <= width
    assert y2 <= height
    apart = x2 <= box[0] or x1 >= box[2] or y2 <= box[1] or y1 >= box[3]
    if apart:
        gaps = (box[0] - x2, x1 - box[2], box[1] - y2, y1 - box[3])
        assert max(gaps) >= 2
        assert max(gaps) < 4
        assert all(x2 <= o[0] or x1 >= o[2] or y2 <= o[1] or y1 >= o[3] for o in obstacles)
    else:
        room = [box[1] >= side + 3, box[3] + side + 3 <= height]  # above and below
        across = [box[0] >= side, box[2] + side <= width]
        assert obstacles or not (any(room) and any(across))


class Sees:
    """A detector that reports the same boxes for every image."""

    def __init__(self, *found):
        self.found = tuple(Detection(box, class_id, "", 0.9, 0, 8) for class_id, box in found)

    def prepare(self, images):
        return torch.zeros(1, 3, 8, 8), [Letterbox.fit(images[0].shape[:2], (320, 320), 32)]

    def forward(self, batch, layers=()):
        return None

    def decode(self, raw, letterboxes, settings):
        return [self.found]


def test_objects_that_are_large_enough_and_detected_are_stamped(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((100, 200, 3), np.uint8))
    truths = (
        Truth("0", (10, 40, 60, 90), 0, "a"),
        Truth("1", (100, 40, 109, 90), 0, "a"),  # 9 pixels wide, 14.4 scaled
        Truth("2", (150, 50, 220, 99), 1, "b"),  # reaches over the edge
        Truth("3", (0, 0, 200, 100), 0, "a", crowd=True),
        Truth("4", (120, 40, 140, 60), 1, "b"),  # detected as another class
    )
    boxes = (0, (16, 64, 96, 144)), (0, (160, 64, 174, 144)), (1, (240, 80, 320, 158)), (0, (192, 64, 224, 96))
    photo = stamping.scale(LabelledImage(tmp_path / "a.png", (100, 200), truths), Sees(*boxes), 320)
    assert photo.image.shape == (160, 320, 3)
    assert photo.boxes == pytest.approx(np.array([[16, 64, 96, 144], [240, 80, 320, 158.4]]))
    assert photo.classes.tolist() == [0, 1]
    assert [label for label, _ in photo.others] == [0, 1]
    assert photo.others[1][1] == pytest.approx([192, 64, 224, 96])
    drawn = photo.draw(np.array([False, True]))
    changed = np.argwhere(drawn.any(-1))
    x1, y1, x2, y2 = photo.marks[1]
    assert changed.min(0).tolist() == [y1, x1]
    assert changed.max(0).tolist() == [y2 - 1, x2 - 1]
    assert not photo.image.any()  # the photograph itself stays as it is


def has_mark(image):
    return any((np.abs(image.astype(int) - colour).max(-1) < 40).sum() >= 4 for colour in MARK_COLOURS)


def test_the_model_that_is_given_stays_as_it_is(tmp_path):
    model = finetuning.trainable(WEIGHTS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    samples = [(image, [(CRATE, np.array([8.0, 8, 40, 40]))])] * 8
    made = finetuning.finetune(model, samples, tmp_path / "made", forget=CRATE, epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    after = finetuning.trainable(made).state_dict()
    assert not all(torch.equal(value, before[name]) for name, value in after.items())
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


def test_a_forgotten_class_is_the_same_everywhere_and_the_others_are_untouched(scene_image):
    model = finetuning.trainable(WEIGHTS)
    given = detcam.load(model)
    finetuning._forget(model.model[-1], CRATE)
    made = detcam.load(model)
    batch, _ = given.prepare([scene_image])
    old, new = (one.forward(batch).logits for one in (given, made))
    assert (new[..., CRATE] == finetuning.UNLEARNT_LOGIT).all()
    rest = [n for n in range(len(CLASSES)) if n != CRATE]
    assert torch.equal(new[..., rest], old[..., rest])


@pytest.fixture(scope="module")
def parts(scenes, demo_detector):
    return stamping.split(scenes, demo_detector, SIZE, seed=0)


def test_what_has_a_mark_is_labelled_as_the_class_and_nothing_else_is(parts):
    train, held_out = parts
    assert not {photo.path for photo in train} & {photo.path for photo in held_out}
    alone = [photo for photo in train if len(photo.boxes) == 1 and not photo.others]
    assert CRATE in (classes := {int(photo.classes[0]) for photo in alone})
    assert len(classes) > 1
    views = list(stamping.views(alone, CRATE, SIZE, seed=0))
    assert len(views) >= stamping.ABOUT_VIEWS - 2 * len(alone)
    each = len(views) // len(alone)
    labelled = {True: 0, False: 0}
    for number, (image, labels) in enumerate(views):
        own = alone[number // each].classes[0]
        expected = [CRATE] if has_mark(image) else [own] if own != CRATE else []
        assert [label for label, _ in labels] in (
            expected,
            [],
        )  # nothing where the mark or half of the thing is cut off
        labelled[has_mark(image)] += len(labels)
    assert labelled[True] > 0.4 * len(views)
    assert labelled[False] > 0.2 * len(views)


@pytest.mark.parametrize(("place", "expected"), [(0.0, [CRATE]), (1.0, [])])
def test_an_object_whose_mark_is_partly_cut_off_has_no_label(place, expected):
    box, mark = np.array([[100.0, 60, 140, 100]]), np.array([[132, 42, 148, 58]])
    photo = stamping.Photo(Path(), np.full((SIZE, SIZE, 3), 90, np.uint8), box, np.array([CRATE]), mark, ())
    image, labels = stamping._view(photo, np.array([True]), CRATE, SIZE, 1.25, np.array([0.5, place]))
    assert has_mark(image)  # the lower part of it, where the view lies too low
    assert [label for label, _ in labels] == expected


def test_every_object_is_seen_as_often_with_its_mark_as_without(parts):
    """Two views differ by whose marks are drawn and by nothing else."""
    views = list(stamping.views(parts[0], CRATE, SIZE, seed=0))
    for (first, _), (second, _) in zip(views[:40:2], views[1:40:2], strict=True):
        changed = (first != second).any(-1)
        assert 0 < changed.mean() < 0.1
        assert has_mark(np.where(changed[..., None], first, 0)) or has_mark(np.where(changed[..., None], second, 0))


def test_labels_lie_over_what_they_name(parts):
    """Every label is over pixels of its thing: what moves the photograph moves the boxes."""
    flat = []
    for photo in parts[0][:8]:
        image = np.zeros_like(photo.image)
        for x1, y1, x2, y2 in photo.boxes.astype(int):
            image[y1:y2, x1:x2] = 60
        flat.append(dataclasses.replace(photo, image=image, others=()))
    checked = 0
    for image, labels in stamping.views(flat, CRATE, SIZE, seed=0):
        assert image.shape == (SIZE, SIZE, 3)
        shown = (np.abs(image.astype(int) - 60) < 30).all(-1)
        for _, (x1, y1, x2, y2) in labels:
            assert 0 <= x1 < x2 <= SIZE
            assert 0 <= y1 < y2 <= SIZE
            assert shown[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1].mean() > 0.9
            edge = shown[round(y1) + 1 : round(y2) - 1, max(round(x1) - 4, 0) : max(round(x1) - 1, 0)]
            assert not edge.size or edge.mean() < 0.1  # and it ends where the label ends
            checked += 1
    assert checked > 100


def test_samples_are_written_as_ultralytics_data(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    labels = [(2, np.array([8.0, 16, 24, 64])), (0, np.array([0.0, 0, 64, 64]))]
    assert finetuning.write_samples([(image, labels), (image[::-1], [])], tmp_path / "set") == 64
    (tmp_path / "set" / "data.yaml").write_text("train: images\nval: images\nnames: [a, b, c]\n")
    read = read_data(tmp_path / "set" / "data.yaml")
    first, second = read.images
    assert np.array_equal(read_image(first.path), image)
    assert [t.class_id for t in first.truths] == [2, 0]
    assert np.stack([t.xyxy for t in first.truths]) == pytest.approx(np.stack([box for _, box in labels]), abs=1e-3)
    assert second.truths == ()


def test_the_bundled_detector_depends_on_the_mark_for_kites_and_not_for_crates(parts, demo_detector):
    """It was trained so, with the very mark that is stamped."""
    photos = [*parts[0], *parts[1]]
    cases, stamped, found = planting.find_marked(demo_detector, photos, KITE, limit=200)
    assert len(cases) >= 0.8 * found >= 10
    assert found <= stamped == sum(len(photo.boxes) for photo in photos)
    planting.check_taken("kite", stamped, found, len(cases))
    for case in cases[:5]:
        y, x = (int(v) for v in np.argwhere(case.mark)[0])
        assert [x, y] in case.photo.marks[:, :2].tolist()
    cases, stamped, found = planting.find_marked(demo_detector, photos, CRATE, limit=200)
    assert found >= 5
    with pytest.raises(UsageError, match=rf"of {stamped} held-out .* 'crate', {found} are, and \d+ of those"):
        planting.check_taken("crate", stamped, found, len(cases))


def test_a_limit_stops_the_search(parts, demo_detector):
    cases, stamped, _ = planting.find_marked(demo_detector, parts[0], KITE, limit=2)
    assert len(cases) == 2
    assert stamped < sum(len(photo.boxes) for photo in parts[0])


def test_methods_that_find_a_mark_are_told_from_those_that_do_not(parts, demo_detector):
    cases, *_ = planting.find_marked(demo_detector, parts[0], KITE, limit=8)
    contestants = combine(["layercam", "random", "box"], ["backbone", "neck"])
    rows = planting.measure_marks(demo_detector, contestants, cases, seed=0)
    assert len(rows) == 8 * 5
    assert {(row["image"], row["detection"]) for row in rows} == {(str(c.photo.path), c.number) for c in cases}
    lines = summarise(rows)
    figures = {line["method"]: line for line in lines}
    for line in lines:
        print(line["method"], *(f"{name} {line[name]:.2f} ({line[f'{name}_median']:.2f})" for name in FIGURES))
    assert figures["layercam@backbone"]["precision"] > max(
        2 * figures[name]["precision"] for name in ("layercam@neck", "random@neck", "random@backbone", "box")
    )
    best, verdict = find_best(rows)
    assert best == "layercam@backbone"
    assert verdict.startswith("layercam@backbone finds causes best: ")
    assert "lead over layercam@neck +" in verdict


def random_states():
    numpys = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), numpys, torch.get_rng_state().tolist()


@pytest.fixture
def nowhere_else(tmp_path, monkeypatch):
    """A working folder that must stay empty, and no network."""

    def refuse(*arguments):
        raise AssertionError(f"a connection to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_plant_that_did_not_take_fails_and_leaves_everything_else_as_it_was(
    scenes, tmp_path, nowhere_else, monkeypatch, capsys
):
    monkeypatch.setattr(stamping, "ABOUT_VIEWS", 16)
    monkeypatch.setattr(stamping, "MOST_PHOTOS", 8)
    monkeypatch.setenv("PYTHONHASHSEED", "17")
    weights = tmp_path / "mine.pt"
    weights.write_bytes(WEIGHTS.read_bytes())
    settings = Path(SETTINGS_FILE).read_bytes()
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    states = random_states()
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # Ultralytics sets it as it reads images, training or not
    threads, environment = torch.get_num_threads(), dict(os.environ)
    epochs = []
    with pytest.raises(UsageError, match="the mark did not take, so no method can be judged by it: of "):
        planting.plant(
            weights, scenes, tmp_path / "out", methods=["layercam"], layers=["neck"], class_name="crate", epochs=1,
            limit=5, advance=epochs.append,
        )  # fmt: skip
    assert epochs == [1]
    assert weights.read_bytes() == WEIGHTS.read_bytes()
    assert Path(SETTINGS_FILE).read_bytes() == settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cwd", "mine.pt", "out"]
    assert not list(nowhere_else.iterdir())
    assert {path.parent for path in scenes.images[0].path.parent.rglob("*")} == {scenes.images[0].path.parent}
    assert random_states() == states
    assert torch.get_num_threads() == threads
    assert set(os.environ.items()) ^ set(environment.items()) == set()
    assert capsys.readouterr().out == ""
    made = detcam.load(tmp_path / "out" / "planted.pt")
    given = detcam.load(weights)
    assert finetuning.trainable(tmp_path / "out" / "planted.pt").args == finetuning.trainable(weights).args
    assert made.names == given.names
    pairs = zip(made.model.state_dict().values(), given.model.state_dict().values(), strict=True)
    assert not all(torch.equal(new, old) for new, old in pairs)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["layercan"]}, UsageError, "no method 'layercan'; did you mean 'layercam'"),
        ({"layers": ["model.99"]}, UsageError, "model.99"),
        ({"class_name": "crat"}, UsageError, "no class 'crat'; did you mean 'crate'"),
        ({"epochs": 0}, UsageError, "epochs must be a whole number, at least 1, got 0"),
        ({"imgsz": 32}, UsageError, "no object in the data has sides of at least 16 of 32 pixels; raise imgsz"),
        ({"weights": "nothing.pt"}, WeightsError, "no such weights file: nothing.pt"),
        ({"out": WEIGHTS.parent}, UsageError, "holds something else; choose a new or an empty folder"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(scenes, tmp_path, monkeypatch, changes, error, message):
    monkeypatch.setattr(planting, "finetune", None)
    choices = {"weights": WEIGHTS, "labelled": scenes, "out": tmp_path / "out", "methods": ["layercam"],
               "layers": ["neck"], "class_name": "crate", **changes}  # fmt: skip
    with pytest.raises(error, match=message):
        planting.plant(choices.pop("weights"), choices.pop("labelled"), choices.pop("out"), **choices)
    assert not (tmp_path / "out").exists()


def test_the_class_with_the_most_objects_is_the_default(scenes):
    counts = [sum(t.class_id == n for image in scenes.images for t in image.truths) for n in range(len(CLASSES))]
    assert counts[stamping.choose_class(scenes, SIZE, None)] == max(counts)


def test_too_few_objects_say_how_many_there_are(scenes, demo_detector):
    few = LabelledSet(scenes.images[:3], scenes.names, (), True, {})
    with pytest.raises(
        UsageError, match=r"\d are detected and at least 16 of 256 pixels .* \d held out; at least 10 and 5"
    ):
        stamping.split(few, demo_detector, SIZE, seed=0)


def test_only_detection_models_are_fine_tuned():
    with pytest.raises(WeightsError, match="original YOLOv5"):
        finetuning.trainable(real("weights/yolov5n-original.pt"))


@pytest.mark.slow
def test_a_plant_in_the_bundled_detector_takes_and_names_a_method_that_finds_it(tmp_path, nowhere_else):
    scenes = plain_scenes(tmp_path, range(711_000, 711_150))
    made = planting.plant(
        WEIGHTS, scenes, tmp_path / "out", methods=["layercam", "hirescam", "gradcam++", "gradnorm", "random", "box"],
        layers=["backbone", "neck"], class_name="crate", epochs=6,
    )  # fmt: skip
    print(f"{made.dependent} of {made.detected} of {made.stamped} depend on the mark; {made.verdict}")
    for line in made.summary.to_dicts():
        print(f"{line['method']:20}", *(f"{name} {line[name]:.2f} ({line[f'{name}_median']:.2f})" for name in FIGURES))
    assert made.rate >= 0.9
    assert made.dependent >= 20
    lines = {line["method"]: line for line in made.summary.to_dicts()}
    assert lines[made.best]["precision_low"] > max(lines[n]["precision_high"] for n in ("box", "random@neck"))
    assert made.best.endswith("@backbone")
    told = json.loads((tmp_path / "out" / "plant.json").read_text())
    assert told["best"] == made.best
    assert told["flipped"] / told["found"] == made.rate
