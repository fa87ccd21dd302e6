"""Run folders of strangers and careless colleagues: read, reported, exported, compared and resumed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detcam.demo import WEIGHTS
from detcam.demo.scenes import CLASSES, SIZE, Scene, make_scene, render
from detcam.errors import DetcamError
from detcam.export import WRITERS, export
from detcam.report.build import build_report
from detcam.report.evaluation import write_page
from detcam.review.comparison import compare
from detcam.runs import open_run
from hostile.judging import LONGEST_LINE, Input, run_command
from hostile.run_folder_inputs import (
    Damage,
    column_damages,
    file_damages,
    folder_damages,
    json_damages,
    map_damages,
    mixed_damages,
)  # fmt: skip

pytestmark = pytest.mark.hostile
FAMILY = "run folders"
SCENES = (500_001, 500_004)
FORMATS = [name for name in WRITERS if name != "fiftyone"]  # which starts its database
JUDGED = ("label_error", "ambiguous", "model_error")


class Runs:
    """A run of each command on two scenes with errors, made when it is first asked for; ``other`` is a second review.

    Args:
        place: where they are written.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        images = place / "scenes"
        images.mkdir()
        for number, seed in enumerate(SCENES):
            scene = make_scene(seed).with_marks(not number)
            Image.fromarray(render(scene)).save(images / f"{number}.png")
            (images / f"{number}.txt").write_text(labels_of(scene) + "0 0.02 0.98 0.03 0.03\n")
        (place / "data.yaml").write_text(f"path: {images}\ntrain: .\nval: .\nnames: {json.dumps(CLASSES)}\n")
        review = ["review", "--weights", str(WEIGHTS), "--data", str(place / "data.yaml"), "--method", "layercam"]
        self.commands = {
            "explain": [
                "explain",
                str(images),
                "--weights",
                str(WEIGHTS),
                "--method",
                "layercam",
                "--save",
                "overlay,panel",
            ],
            "review": review,
            "other": [*review, "--conf", "0.4"],
            "evaluate": ["evaluate", *review[1:5], "--methods", "layercam,box", "--limit", "2", "--per-image", "1"],
        }

    def __getitem__(self, name: str) -> Path:
        run = self.place / name
        if not run.exists():
            answer = run_command(*self.commands[name], "--out", str(run))
            assert answer.code == 0, answer.stderr
            if name == "review":
                self._judge(run)
        return run

    def _judge(self, run: Path) -> None:
        """Verdicts, and a cause for the errors that hang on a patch."""
        rows = sorted(open_run(run).rows(), key=lambda row: row.patch is None)
        ids = [row.id for row in rows][:3]
        assert rows[0].patch is not None
        verdicts = {one: {"verdict": kind, "note": "a note"} for one, kind in zip(ids[::-1], JUDGED, strict=False)}
        (run / "verdicts.json").write_text(json.dumps(verdicts))
        (run / "causes").mkdir(exist_ok=True)
        Image.fromarray(render(make_scene(1))[:9, :9]).save(run / "causes" / "cause-1-0.png")
        members = [row.id for row in rows if row.patch is not None]
        cause = {"id": "cause-1", "name": "a mark", "members": members, "tried": 3, "flipped": 2, "pasted": 1,
                 "appeared": 1, "confirmed": True, "text": "they share it",
                 "patches": ["causes/cause-1-0.png"]}  # fmt: skip
        (run / "causes.json").write_text(json.dumps([cause]))
        build_report(run)
        for kind in FORMATS:  # the whole one is taken
            export(run, kind, self.place / f"whole-{kind}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def labels_of(scene: Scene) -> str:
    """A scene's things as YOLO's labels."""
    boxes = [(thing.class_id, *(side / SIZE for side in thing.xyxy)) for thing in scene.things]
    return "".join(f"{k} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n" for k, x1, y1, x2, y2 in boxes)


def judged_on(base: Path, damages: Iterable[tuple[str, Damage]]) -> Iterator[Input]:
    """Each damage as an input: what is asked about is a copy below the output, its victim lies beside."""
    for name, damage in damages:

        def make(folder: Path, damage: Damage = damage) -> Callable[[Path], Path]:
            victim = folder / "victim"
            (victim / "pictures" / "thumbs").mkdir(parents=True)
            for file in ("picture.png", "index.html", "data.js", "0.npz", "pictures/thumbs/0.jpg", "cause-1-0.png"):
                (victim / file).write_bytes(b"a victim's")

            def place(out: Path) -> Path:
                damage(copied(base, out / "run"), victim)
                return out / "run"

            return place

        yield Input(name, make)


def copied(base: Path, run: Path) -> Path:
    """A copy of a folder; shutil's would count as a change of the original."""
    for path in sorted(base.rglob("*")):
        place = run / path.relative_to(base)
        if path.is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return run


def refused(ask: Callable[[], object]) -> bool:
    """Whether something is refused, which takes one line."""
    try:
        ask()
    except DetcamError as error:
        text = str(error)
        assert len(text.strip().splitlines()) == 1, text[:500]
        assert len(text) <= LONGEST_LINE, text[:500]
        return True
    return False


def read_all(run: Path) -> None:
    """Everything that a program may ask of a run."""
    opened = open_run(run)
    for name in ("detections", "images", "misses", "truths", "comparison", "evaluation", "summary", "sanity"):
        refused(lambda name=name: opened.has(name))
        refused(lambda name=name: opened.table(name))
    for ask in (opened.errors, opened.summary, opened.causes, opened.verdicts):
        refused(ask)
    for rows in (opened.rows, opened.misses):
        refused(lambda rows=rows: [read_one(opened, row) for row in rows()])


def read_one(run, row) -> None:
    assert all(isinstance(one, str) for one in (row.id, row.image, row.detection.class_name))
    assert np.isfinite(row.detection.xyxy).all()
    assert 0 <= row.detection.class_id < 1_000_000
    assert np.abs(row.detection.xyxy).max() < 1e9

    def draw() -> None:
        heatmap = run.heatmap(row)
        if heatmap is not None:
            assert heatmap.letterbox.original[0] * heatmap.letterbox.original[1] < 2**30
            array = heatmap.array
            assert array.min() >= 0
            assert array.max() <= 1

    refused(draw)


def report(run: Path) -> None:
    page = build_report(run)
    text = page.read_text("utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    script = (page.parent / "data.js").read_text("ascii")
    assert "<" not in script
    data = json.loads(script.removeprefix("window.DETCAM = ").rstrip().removesuffix(";"), parse_constant=refuse)
    for case in data["cases"]:
        for key in ("box", "truth_box"):
            assert all(isinstance(side, int | float) and abs(side) < 1e9 for side in case.get(key, ()))
        assert isinstance(case["name"], str)
        assert isinstance(case["id"], str)
        assert 0 <= case.get("confidence", 0) <= 1
        assert 0 <= case["image"] < len(data["images"])
    victims = [path for path in (run / "report").rglob("*") if path.is_file() and b"a victim" in path.read_bytes()]
    assert not victims


def refuse(text: str) -> None:
    raise AssertionError(f"{text} in JSON")


def write_all(run: Path, out: Path) -> None:
    """Every export, and the comparison."""
    done = [refused(lambda kind=kind: export(run, kind, out / kind)) for kind in FORMATS]
    for kind, not_done in zip(FORMATS, done, strict=True):
        files = [path for path in (out / kind).rglob("*") if path.is_file()]
        assert not (not_done and files), f"half an export to {kind}"
        assert sum(path.stat().st_size for path in files) < 2**28
        assert not any(b"a victim" in path.read_bytes() or path.is_symlink() for path in files)
    for name in ("predictions.json", "truths.json"):
        if (out / "coco" / name).is_file():
            document = json.loads((out / "coco" / name).read_text("utf-8"), parse_constant=refuse)
            for one in document["annotations"]:
                assert all(math.isfinite(side) and abs(side) < 1e9 for side in one["bbox"])


def try_all(judge, runs, name, damages, ask, **limits):
    judge(FAMILY, judged_on(runs[name], damages), lambda place, out: ask(place(out), out), **limits)


@pytest.mark.parametrize("file", ["run.json", "summary.json", "causes.json", "verdicts.json"])
def test_documents_of_a_review(judge, runs, seed, file):
    def ask(run: Path, out: Path) -> None:
        read_all(run)
        refused(lambda: report(run))
        write_all(run, out)

    damages = json_damages(file, random.Random(seed), 2)(runs["review"])
    try_all(judge, runs, "review", islice(damages, 200), ask)


@pytest.mark.parametrize("file", ["detections.parquet", "misses.parquet", "truths.parquet"])
@pytest.mark.parametrize("what", ["read and reported", "exported"])
def test_columns_of_a_review(judge, runs, seed, file, what):
    other = runs["other"]  # made now: what is asked about makes nothing but its output

    def ask(run: Path, out: Path) -> None:
        if what == "exported":
            write_all(run, out)
            refused(lambda: compare(run, other))
        else:
            read_all(run)
            refused(lambda: report(run))

    damages = column_damages(file, random.Random(seed), 3 if file == "detections.parquet" else 2)(runs["review"])
    try_all(judge, runs, "review", damages, ask)


def test_files_of_a_review(judge, runs, seed):
    other = runs["other"]

    def ask(run: Path, out: Path) -> None:
        refused(lambda: read_all(run))
        refused(lambda: report(run))
        write_all(run, out)
        refused(lambda: compare(run, other))

    files = [one for one in file_damages(runs["review"], random.Random(seed), 1) if not one[0].startswith("report/pic")]
    try_all(judge, runs, "review", chain(files, folder_damages(runs["review"])), ask)


def test_what_is_in_the_way_of_a_report(judge, runs, seed):
    rng = random.Random(seed)
    files = [one for one in file_damages(runs["review"], rng, 1) if one[0].startswith("report/")]
    try_all(judge, runs, "review", rng.sample(files, min(len(files), 150)), lambda run, out: report(run))


def test_maps(judge, runs, seed):
    def ask(run: Path, out: Path) -> None:
        read_all(run)
        report(run)
        write_all(run, out)

    try_all(judge, runs, "review", map_damages(runs["review"], random.Random(seed)), ask)


def test_evaluations(judge, runs, seed):
    rng, base = random.Random(seed), runs["evaluate"]
    damages = chain(
        json_damages("run.json", rng, 1)(base), column_damages("evaluation.parquet", rng, 2)(base),
        file_damages(base, rng, 1),
    )  # fmt: skip

    def ask(run: Path, out: Path) -> None:
        refused(lambda: read_all(run))
        page = write_page(run)
        assert "<script>alert" not in page.read_text("utf-8", "replace")

    kept = list(damages)
    try_all(judge, runs, "evaluate", rng.sample(kept, min(len(kept), 80)), ask)


def test_mixtures(judge, runs, seed):
    def ask(run: Path, out: Path) -> None:
        refused(lambda: read_all(run))
        refused(lambda: report(run))
        write_all(run, out)

    bases = [runs[name] for name in ("explain", "review", "other", "evaluate")]
    damages = mixed_damages(bases, random.Random(seed), 60)
    kept = [one for one in damages if "pictures/" not in one[0]]
    try_all(judge, runs, "review", kept, ask)


def test_commands(judge, runs, seed):
    rng, base = random.Random(seed), runs["review"]
    damages = list(chain(
        json_damages("summary.json", rng, 1)(base), column_damages("detections.parquet", rng, 1)(base),
        file_damages(base, rng, 1), folder_damages(base),
    ))  # fmt: skip

    def ask(run: Path, out: Path):
        if rng.random() < 0.5:
            return run_command("report", str(run))
        return run_command("export", str(run), "--to", rng.choice(FORMATS), "--out", str(out / "exported"))

    try_all(judge, runs, "review", rng.sample(damages, 100), ask)


def test_resumed(judge, runs, seed):
    """An explained run goes on in a damaged folder: it is refused, or ends as the whole run."""
    rng, base = random.Random(seed), runs["explain"]
    damages = list(chain(
        file_damages(base, rng, 1), folder_damages(base), json_damages("run.json", rng, 1)(base),
        column_damages("detections.parquet", rng, 1)(base), column_damages("images.parquet", rng, 2)(base),
    ))  # fmt: skip
    command = runs.commands["explain"]
    whole = {row.id for row in open_run(base).rows()}
    pictures = {path.name for path in (base / "overlays").iterdir()}

    def ask(run: Path, out: Path):
        answer = run_command(*command, "--out", str(run))
        if answer.code == 0:
            opened = open_run(run)
            rows = list(opened.rows())
            assert sorted(row.id for row in rows) == sorted(whole)
            for row in rows:
                assert opened.heatmap(row) is not None
            assert {path.name for path in (run / "overlays").iterdir()} >= pictures
        return answer

    try_all(judge, runs, "explain", rng.sample(damages, min(len(damages), 120)), ask, seconds=40)


def test_other_commands_resumed(judge, runs, seed):
    rng = random.Random(seed)
    for name, count in (("evaluate", 15), ("review", 25)):
        damages = list(chain(file_damages(runs[name], rng, 1), folder_damages(runs[name])))
        damages = [one for one in damages if "report/pic" not in one[0]]
        command = runs.commands[name]
        try_all(
            judge, runs, name, rng.sample(damages, count),
            lambda run, out, command=command: run_command(*command, "--out", str(run)), seconds=60,
        )  # fmt: skip
