"""A review: where misses died, what errors hang on, what they have in common, and the loop back into training."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import polars as pl
import pytest
import torch
import yaml

import detcam
from detcam.adapters.base import RawOutput
from detcam.cli import main
from detcam.data import Truth, read_data
from detcam.demo import WEIGHTS
from detcam.demo.scenes import CLASSES, GEM, KITE, SIZE, make_scene, render
from detcam.errors import UsageError
from detcam.export import export
from detcam.geometry import Letterbox
from detcam.methods.windows import Scan, scan
from detcam.probing.prepared_image import PreparedImage
from detcam.probing.probe import Probe
from detcam.review.causes import LEAST_MEMBERS, Suspect, find_causes
from detcam.review.comparison import compare, count_fates
from detcam.review.errors import image_errors
from detcam.review.evidence import EvidencePatch, find_evidence
from detcam.review.explaining import ErrorExplainer, ReviewedImage, shared_mass, wrong_side
from detcam.review.misses import trace_miss
from detcam.targets import Contrast
from detcam.types import Detection

NAMES = dict(enumerate(CLASSES))
MARKED_GEMS = range(630_000, 630_024)


def detection(xyxy, class_id=GEM, confidence=0.9, anchor=0):
    return Detection(np.array(xyxy, np.float32), class_id, NAMES[class_id], confidence, anchor, 8)


def truth(xyxy, class_id=GEM, number=0):
    return Truth(number, np.array(xyxy, np.float32), class_id, NAMES[class_id], False, ())


def raw_of(boxes, probabilities):
    """A raw output of given boxes and class probabilities."""
    logits = torch.logit(torch.tensor(probabilities, dtype=torch.float32).clamp(1e-6, 1 - 1e-6))[None]
    boxes = torch.tensor(boxes, dtype=torch.float32)[None]
    return RawOutput(logits, boxes, torch.zeros_like(boxes), torch.full((boxes.shape[1],), 8.0), size=(100, 100))


BLANK = np.zeros((100, 100, 3), np.uint8)
LETTERBOX = Letterbox((100, 100), (100, 100), (100, 100), (0, 0))
BOX, NEAR, BESIDE, FAR = [10, 10, 50, 50], [16, 10, 56, 50], [24, 10, 64, 50], [60, 60, 90, 90]


def row(gem, kite=0.0):
    return [0.0, 0.0, 0.0, kite, gem]


@pytest.mark.parametrize(
    ("boxes", "probabilities", "found", "where", "suppressor", "words"),
    [
        ([BOX, FAR], [row(0.01), row(0.9)], [], "never_fired", None, "more than 1.0% sure"),
        ([FAR], [row(0.9)], [], "never_fired", None, "no raw prediction overlaps it by half"),
        ([BOX], [row(0.2)], [], "below_threshold", None, "20% sure of gem, below the threshold of 25%"),
        ([BOX], [row(0.1, 0.7)], [], "other_class", None, "seen as kite (70%) rather than gem (10%)"),
        ([NEAR, BESIDE], [row(0.6), row(0.8)], [detection(BESIDE, anchor=1)], "suppressed", 0, "box beside it was"),
        ([NEAR], [row(0.6)], [], "suppressed", None, "the limit of boxes per image cut it off"),
        ([BOX], [row(0.6)], [detection(BOX)], "suppressed", 0, "was reported, and found another object"),
        ([NEAR], [row(0.4, 0.8)], [], "other_class", None, "the same one was more sure of kite (80%)"),
        ([BOX], [row(0.4, 0.8)], [detection(BOX, KITE)], "other_class", 0, "reported as kite (80%)"),
    ],
)  # fmt: skip
def test_where_a_miss_died(boxes, probabilities, found, where, suppressor, words):
    prepared = PreparedImage(SimpleNamespace(names=NAMES), BLANK, None, raw_of(boxes, probabilities), 0, LETTERBOX)
    trace = trace_miss(truth(BOX), prepared, found, 0.25, 0.6)
    assert (trace.where, trace.suppressor) == (where, suppressor)
    assert words in trace.text
    assert trace.detection.class_id == (KITE if where == "other_class" else GEM)


def test_the_side_that_is_wrong():
    assert wrong_side(detection([0, 10, 50, 50]), truth(BOX)) == (0, 10)
    assert wrong_side(detection([10, 10, 50, 30]), truth(BOX)) == (3, -20)
    # Five pixels of the width are less than four of a height a quarter of it.
    assert wrong_side(detection([5, 10, 90, 34]), truth([10, 10, 90, 30]))[0] == 3


def test_what_two_maps_share():
    one, other = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    one[0, :2], other[0, 1:3] = 0.5, 0.2
    assert shared_mass(one, other) == pytest.approx(0.5)
    assert shared_mass(one, one * 3) == pytest.approx(1)
    assert shared_mass(one, np.zeros_like(one)) == 0


def marked_gem():
    """A scene whose gem is marked and called a kite, the detection and the mark."""
    model = detcam.load(WEIGHTS)
    for seed in MARKED_GEMS:
        scene = make_scene(seed).with_marks(True, GEM)
        gems = [thing for thing in scene.things if thing.class_id == GEM]
        if len(gems) == 1:
            image = render(scene)
            for explanation in detcam.explain(model, image, method="random"):
                found = explanation.detection
                if found.class_id == KITE and np.abs(found.xyxy - gems[0].xyxy).max() < 6:
                    return model, image, found, gems[0]
    raise AssertionError("no marked gem is called a kite")


@pytest.fixture(scope="module")
def fooled():
    return marked_gem()


def test_the_evidence_of_a_marked_gem_is_its_mark(fooled):
    model, image, found, gem = fooled
    prepared = detcam.open_image(model, image).prepared
    scanned = scan(Probe(prepared, [(found, Contrast(GEM))]).frame(0))
    nothing = np.zeros((4, 4), np.float32)
    evidence = find_evidence(prepared, found, GEM, nothing, scanned, 0.25)
    x1, y1, x2, y2 = evidence.xyxy.tolist()
    left, top, right, bottom = gem.mark_xyxy
    shared = max(min(x2, right) - max(x1, left), 0) * max(min(y2, bottom) - max(y1, top), 0)
    assert shared >= 0.7 * (right - left) * (bottom - top)
    assert evidence.flipped
    assert not evidence.control
    assert evidence.after < 0.25 < evidence.before
    heat = scanned.map(prepared.letterbox.network)
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(hottest[1] * 8 + 4 - (left + right) / 2) < 16
    assert abs(hottest[0] * 8 + 4 - (top + bottom) / 2) < 16


def test_a_scans_map_is_what_the_windows_around_a_cell_cost():
    alone = Scan(np.array([[8, 0, 24, 16]]), np.array([2.0])).map((16, 40))
    assert np.allclose(alone, [[0, 2, 2, 0, 0]] * 2)
    both = Scan(np.array([[0, 0, 16, 8], [16, 0, 32, 8]]), np.array([1.0, 3.0])).map((8, 40))[0]
    assert (np.diff(both[:4]) > 0).all()
    assert both[4] == 0
    assert both[:4].mean() == pytest.approx(2, abs=1e-6)


def test_errors_are_asked_what_fits_them(fooled):
    model, image, found, gem = fooled
    truths = [truth(gem.xyxy)]
    duplicate = replace(found, confidence=0.5)
    kite = truth(gem.xyxy, KITE)
    cases = {"Cls": ([found], truths), "Dupe": ([found, duplicate], [kite]), "Bkg": ([found], [])}
    wide = truth([gem.xyxy[0] - 1.2 * gem.half, *gem.xyxy[1:]], KITE)
    cases["Loc"] = ([found], [replace(wide, xyxy=np.array([gem.xyxy[0] - 2.4 * gem.half, *gem.xyxy[1:]], np.float32))])
    explainer = ErrorExplainer(model)
    for error, (several, labels) in cases.items():
        told = image_errors(labels, several)
        case = ReviewedImage(detcam.open_image(model, image), several, labels, told)
        number = next(n for n, outcome in enumerate(told.detections) if outcome.error == error)
        explained, scans = explainer.errors(case)
        one = explained[number]
        assert one.explanation.receipt is not None
        assert (number in scans) == (error == "Cls")
        expected = {"Cls": "contrast:gem", "Loc": "left"}.get(error, "class")
        assert one.explanation.target == expected or one.explanation.method == "guided"
        words = {"Cls": "gem taken for kite", "Dupe": "is the other box's too", "Bkg": "no labelled object"}
        assert words.get(error, "left side") in one.text
        if error == "Dupe":
            assert "100% of its evidence" in one.text  # the same box twice


def test_errors_are_explained_by_the_reviews_own_threshold(fooled):
    """A box that scores less than the threshold is lost already, and nothing can cost it."""
    model, image, found, _ = fooled
    for conf, stands in ((found.confidence - 0.01, True), (found.confidence + 0.02, False)):
        case = ReviewedImage(detcam.open_image(model, image, conf=conf), [found], [], image_errors([], [found]))
        explained, _ = ErrorExplainer(model).errors(case)
        assert (explained[0].explanation.evidence is not None) == stands


def suspect(number, place, features, flipped=True, control=False, class_id=KITE):
    evidence = EvidencePatch(
        np.array([0, 0, 10, 10]), flipped, control, 0.9, 0.1, np.array(place, float), 1.0,
        np.array(features, np.float32), np.random.default_rng(number).normal(0, 0.1, len(features)).astype(np.float32),
    )  # fmt: skip
    return Suspect(f"id-{number}", "a.png", detection(BOX, class_id), "Cls", (GEM, "gem"), evidence)


def test_patches_that_look_alike_and_lie_alike_are_one_cause():
    rng = np.random.default_rng(0)
    looks = rng.normal(0, 1, (2, 32))
    several = [suspect(n, (0.5, -0.7), looks[0] + rng.normal(0, 0.1, 32)) for n in range(6)]
    several += [suspect(10 + n, (0, 0), looks[1] + rng.normal(0, 0.1, 32), flipped=n == 0) for n in range(4)]
    several += [suspect(20, (0.5, -0.7), looks[0], class_id=0)]  # what it is called is another matter
    first, second = find_causes(several)
    assert {member.id for member in first.members} == {f"id-{n}" for n in range(6)}
    assert {member.id for member in second.members} == {f"id-{10 + n}" for n in range(4)}
    assert (first.confirmed, second.confirmed) == (True, False)
    assert first.text.startswith("6 false positives share this cause; 6 of 6 vanish without it")
    assert "above right" in first.name
    assert len(find_causes(several[: LEAST_MEMBERS - 1])) == 0
    everywhere = [suspect(n, (0.5, -0.7), looks[0] + rng.normal(0, 0.1, 32), control=True) for n in range(6)]
    assert not find_causes(everywhere)[0].confirmed  # any patch would do


def write_set(folder, seeds, name="data.yaml"):
    """Scenes whose gems are marked in every other one, as a YOLO set."""
    for part in ("images/val", "labels/val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        scene = make_scene(seed).with_marks(seed % 2 == 0, GEM)
        cv2.imwrite(str(folder / f"images/val/{seed}.png"), render(scene)[..., ::-1])
        lines = [
            f"{t.class_id} {t.x / SIZE} {t.y / SIZE} {2 * t.half / SIZE} {2 * t.half / SIZE}" for t in scene.things
        ]
        (folder / f"labels/val/{seed}.txt").write_text("\n".join(lines))
    described = {"path": str(folder), "train": "images/val", "val": "images/val", "names": NAMES}
    (folder / name).write_text(yaml.safe_dump(described))
    return folder / name


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    data = write_set(folder / "set", MARKED_GEMS)
    (folder / "set" / "images" / "val" / "broken.png").write_bytes(b"no image")
    code = main(["review", "--weights", str(WEIGHTS), "--data", str(data), "--out", str(folder / "run")])
    assert code == 1  # the broken one
    return folder


def test_a_review_finds_the_planted_shortcut(reviewed):
    run = reviewed / "run"
    first = json.loads((run / "causes.json").read_text())[0]
    assert first["confirmed"]
    assert first["flipped"] >= 0.8 * first["tried"]
    assert first["appeared"] >= 0.8 * first["pasted"] > 0
    assert first["name"] == "kite for gem: a patch outside the box, above right"
    table = pl.read_parquet(run / "detections.parquet")
    assert set(table.filter(pl.col("cause") == "cause-1")["id"]) == set(first["members"])
    told = json.loads((run / "summary.json").read_text())
    wrong = table.filter(~pl.col("error_type").is_in(["TP", "ignored"]))
    assert {name: told["counts"][name] for name in set(wrong["error_type"])} == dict(
        wrong.group_by("error_type").len().iter_rows()
    )
    assert all(wrong["status"].is_in(["ok", "unsupported", "no_signal"]))
    assert set(wrong["letterbox"].is_null()) == {False}
    assert [json.loads(line)["path"] for line in (run / "errors.jsonl").read_text().splitlines()] == [
        str(reviewed / "set" / "images" / "val" / "broken.png")
    ]
    assert (run / "report" / "index.html").is_file()
    assert all((run / patch).is_file() for patch in first["patches"])


def test_windows_answer_any_target_and_any_detector(fooled):
    model, image, found, _ = fooled
    session = detcam.open_image(model, image)
    shape = session.letterbox.network
    maps = {}
    for target in ("class", "contrast:gem", "left"):
        (explanation,) = session.explain(found, "windows", target=target)
        maps[target] = explanation.heatmap.raw
        assert maps[target].shape == (shape[0] // 8, shape[1] // 8)
        assert maps[target].min() >= 0 < maps[target].max()
    assert not np.allclose(maps["class"], maps["contrast:gem"], atol=0.01)
    box = detcam.BlackBox(lambda images: [([[10, 10, 60, 60]], [[0.9, 0.1]]) for _ in images], ["one", "two"])
    (explanation,) = detcam.explain(box, image, method="windows", target="contrast:two")
    assert not explanation.heatmap.raw.any()  # nothing changes what it answers


def test_a_review_goes_on_where_it_stopped(reviewed, capsys):
    run = reviewed / "run"
    before = {name: (run / name).read_bytes() for name in ("detections.parquet", "truths.parquet", "causes.json")}
    stamps = {path: path.stat().st_mtime_ns for path in (run / "heatmaps").iterdir()}
    command = ["review", "--weights", str(WEIGHTS), "--data", str(reviewed / "set" / "data.yaml"), "--out", str(run)]
    assert main(command) == 1
    assert {name: (run / name).read_bytes() for name in before} == before
    assert {path: path.stat().st_mtime_ns for path in (run / "heatmaps").iterdir()} == stamps
    capsys.readouterr()
    assert main([*command, "--conf", "0.4"]) == 2
    assert "another configuration (conf: 0.25, now 0.4)" in capsys.readouterr().err


def test_counterfactuals_keep_labels_and_change_only_the_cause(reviewed, tmp_path):
    run, out = reviewed / "run", tmp_path / "cf"
    assert "confirmed causes" in export(run, "counterfactuals", out)
    told = pl.read_csv(out / "counterfactuals.csv")
    assert set(told["kind"]) == {"hard", "removed", "pasted"}
    made = read_data(out / "data.yaml", "train")
    assert len(made.images) == len(told)
    assert not made.problems
    sources = {image.path.name: image for image in read_data(reviewed / "set" / "data.yaml", "val").images}
    for row, image in zip(told.iter_rows(named=True), made.images, strict=True):
        source = sources[row["image"].rpartition("/")[2]]
        assert [t.class_id for t in image.truths] == [t.class_id for t in source.truths]
        for one, other in zip(image.truths, source.truths, strict=True):
            assert np.abs(one.xyxy - other.xyxy).max() < 0.01
        before, after = cv2.imread(str(source.path)), cv2.imread(str(image.path))
        changed = (before != after).any(2).mean()
        assert changed == 0 if row["kind"] == "hard" else 0 < changed < 0.2
    with pytest.raises(UsageError, match="is not an empty folder"):
        export(run, "counterfactuals", out)


def test_two_reviews_of_one_set_are_paired(tmp_path):
    box = {"class_id": 0, "x1": 10.0, "y1": 10.0, "x2": 50.0, "y2": 50.0}
    found = {"confidence": 0.5, "anchor": 3, "stride": 8, "heatmap": None, "context_dependence": 0.5}
    kinds = {"heatmap": pl.String, "truth_id": pl.Int64}

    def write_truths(folder, rows):
        kept = {"image": "a.png", "class_name": "kite", **box}
        pl.DataFrame([kept | row for row in rows], schema_overrides={"found_by": pl.String}).write_parquet(
            folder / "truths.parquet"
        )

    def write(name, rows, misses=()):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text('{"schema": 2, "command": "review"}')
        table = pl.DataFrame([box | found | row for row in rows], infer_schema_length=None, schema_overrides=kinds)
        table.write_parquet(folder / "detections.parquet")
        like = pl.DataFrame([box | found | (misses or rows)[0]], schema_overrides=kinds)
        like.head(len(misses)).write_parquet(folder / "misses.parquet")
        write_truths(folder, [{"id": n, "class_id": len(name), "found_by": None if n else name} for n in range(3)])
        return folder

    def error(name, kind, truth_id, class_name="kite"):
        return {"id": name, "image": "a.png", "error_type": kind, "truth_id": truth_id, "class_name": class_name}

    before = write("a", [error("a0", "Cls", 0), error("a1", "Bkg", None), error("a2", "TP", 2), error("a3", "Loc", 1)])
    after = write("b", [error("b0", "TP", 0), error("b1", "Bkg", None), error("b2", "Bkg", None, "gem")],
                  [{"id": "b-m1", "image": "a.png", "truth_id": 1, "class_name": "kite"}])  # fmt: skip
    table = compare(before, after)
    told = {(row["fate"], row["before"], row["after"]) for row in table.iter_rows(named=True)}
    assert told == {("mended", "a0", None), ("kept", "a1", "b1"), ("kept", "a3", "b-m1"), ("new", None, "b2")}
    assert {row["type"]: (row["mended"], row["kept"], row["new"]) for row in count_fates(table)} == {
        "Cls": (1, 0, 0), "Loc": (0, 1, 0), "Both": (0, 0, 0), "Dupe": (0, 0, 0), "Bkg": (0, 1, 1), "Miss": (0, 0, 0),
    }  # fmt: skip
    write_truths(after, [{"id": 0, "class_id": 1, "found_by": None}])
    with pytest.raises(UsageError, match="different labels"):
        compare(before, after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to review"),
        (["--data", "SET", "--map", "ball"], "SET:MODEL pairs"),
        (["--data", "SET", "--map", "ball:bal"], "no class 'bal'; did you mean 'ball'"),
        (["--data", "IMAGES"], "no labels there"),
        (["--data", "SET", "--conf", "2"], "conf must lie in [0, 1], got 2.0"),
        (["--data", "SET", "--method", "guidde"], "no method 'guidde'; did you mean 'guided'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(reviewed, tmp_path, capsys, options, message):
    places = {"SET": str(reviewed / "set" / "data.yaml"), "IMAGES": str(reviewed / "set" / "images")}
    options = [places.get(option, option) for option in options]
    assert main(["review", "--weights", str(WEIGHTS), "--out", str(tmp_path / "r"), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_finished_review_with_misses_is_not_done_again(tmp_path, monkeypatch):
    """Its misses lie in a table of their own, and are part of what is done all the same."""
    data = write_set(tmp_path / "set", range(520_000, 520_004))
    command = ["review", "--data", str(data), "--weights", str(WEIGHTS), "--conf", "0.97", "--out", str(tmp_path / "r")]
    assert main(command) == 0
    assert len(pl.read_parquet(tmp_path / "r" / "misses.parquet")) > 0
    before = pl.read_parquet(tmp_path / "r" / "misses.parquet")

    def again(*_):
        raise AssertionError("an image that is done was explained again")

    monkeypatch.setattr("detcam.review.rows.Reviewer.__call__", again)
    assert main(command) == 0
    assert pl.read_parquet(tmp_path / "r" / "misses.parquet").equals(before)


def test_a_miss_is_told_in_the_runs_table(tmp_path):
    data = write_set(tmp_path / "set", MARKED_GEMS[:2])
    # An object that nothing is like: labelled in an empty corner.
    label = next((tmp_path / "set" / "labels" / "val").glob("*.txt"))
    label.write_text(label.read_text() + "\n0 0.02 0.98 0.03 0.03")
    assert main(["review", "--weights", str(WEIGHTS), "--data", str(data), "--out", str(tmp_path / "run")]) == 0
    (row,) = pl.read_parquet(tmp_path / "run" / "misses.parquet").filter(pl.col("x2") < 10).iter_rows(named=True)
    assert row["where_it_died"] == "never_fired"
    assert row["class_name"] == "ball"
    assert "the map shows what spoke against ball" in row["explanation"]
    found = pl.read_parquet(tmp_path / "run" / "detections.parquet")
    assert "Miss" not in set(found["error_type"])
