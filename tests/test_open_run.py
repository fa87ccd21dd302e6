"""A run folder read back: rows are what explain returned, maps are theirs, and what is damaged is named."""

import dataclasses
import json
import shutil
import sys
from subprocess import run as call

import numpy as np
import polars as pl
import pytest
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import CLASSES, make_scene, render
from detcam.errors import UsageError
from detcam.io.files import locate
from detcam.runs import Failure, Row, Run, open_run
from detcam.runs.folder import RunFolder
from detcam.runs.schema import COLUMNS
from support.images import photograph

EXACT = ("method", "target", "layers", "status", "reason", "sentence", "receipt")
MARKED, UNMARKED = 500_001, 500_004


@pytest.fixture(scope="module")
def result(demo_detector):
    """A scene explained by default, with receipts and evidence."""
    return detcam.explain(demo_detector, render(make_scene(MARKED).with_marks(True)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, result):
    """The run folder of that scene, and of an input that failed."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run", "explain", {"conf": 0.25})
    folder.describe(classes={0: "gem"})
    folder.fail("gone.jpg", "no such file")
    folder.add(result)
    folder.finish(True)
    return folder.path


@pytest.fixture
def copy(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "copy")


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """A review of one scene, two of whose truths nothing is like."""
    folder = tmp_path_factory.mktemp("review")
    Image.fromarray(render(make_scene(UNMARKED))).save(folder / "scene.png")
    (folder / "scene.txt").write_text("0 0.02 0.98 0.03 0.03\n1 0.98 0.98 0.03 0.03\n")
    names = json.dumps(CLASSES)
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: .\nval: scene.png\nnames: {names}\n")
    command = ["review", "--weights", str(WEIGHTS), "--data", str(folder / "data.yaml"), "--out", str(folder / "run")]
    assert main([*command, "--classes", ",".join(CLASSES)]) == 0
    return folder / "run"


def test_rows_are_what_explain_returned(whole, result):
    run = detcam.open_run(whole)
    rows = list(run.rows())
    assert len(run) == len(rows) == len(result) > 1
    assert any(e.evidence is not None for e in result)
    assert any(e.receipt is not None for e in result)
    for row, e in zip(rows, result, strict=True):
        assert {name: getattr(row, name) for name in EXACT} == {name: getattr(e, name) for name in EXACT}
        assert (row.evidence is None) == (e.evidence is None)
        if row.evidence is not None:
            told = dataclasses.asdict(e.evidence)
            assert np.array_equal(row.evidence.patches, told.pop("patches"))
            assert {name: getattr(row.evidence, name) for name in told} == told
        assert np.array_equal(row.detection.xyxy, e.detection.xyxy)
        assert row.detection.confidence == pytest.approx(e.detection.confidence, abs=1e-7)
        for name in ("class_id", "class_name", "anchor", "stride"):
            assert getattr(row.detection, name) == getattr(e.detection, name)
        assert row.support == pytest.approx(e.support, abs=5e-5)
        assert row.forwards == pytest.approx(e.forwards, rel=1e-6)
        assert row.letterbox == e.heatmap.letterbox
        assert (row.image, row.patch, dict(row.further)) == (result.source, None, {})


def test_maps_are_those_explained(whole, result):
    run = open_run(whole)
    for row, columns, e in zip(run.rows(), run.table().iter_rows(named=True), result, strict=True):
        heatmap = run.heatmap(row)
        assert heatmap.letterbox == e.heatmap.letterbox
        assert heatmap.raw.dtype == np.float32
        assert np.abs(heatmap.raw - e.heatmap.raw).max() <= 2**-11 * np.abs(e.heatmap.raw).max()  # float16's half step
        assert np.array_equal(run.heatmap(columns).raw, heatmap.raw)
    assert run.heatmap({**columns, "heatmap": None}) is None
    assert run.heatmap({**columns, "letterbox": None}) is None


def test_what_ran_and_what_failed(whole):
    run = open_run(str(whole))
    assert (run.info["command"], run.info["state"], run.info["configuration"]) == (
        "explain",
        "finished",
        {"conf": 0.25},
    )
    assert run.errors() == (Failure("gone.jpg", "no such file"),)
    assert run.table().schema == pl.Schema(COLUMNS)
    assert len(run.table("images")) == 1
    assert not list(run.misses())
    assert [run.has(name) for name in ("detections", "misses", "truths")] == [True, False, False]
    with pytest.raises(TypeError):
        run.info["command"] = "review"
    with pytest.raises(dataclasses.FrozenInstanceError):
        next(run.rows()).sentence = ""
    with pytest.raises(UsageError, match=r"no table 'detection'; did you mean 'detections'\?"):
        run.table("detection")
    with pytest.raises(UsageError, match=r"has no misses\.parquet: it is no finished run of detcam review, but"):
        run.table("misses")


def test_reading_changes_nothing(whole):
    def contents():
        return {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}

    before = contents()
    run = open_run(whole)
    assert all(run.heatmap(row) for row in run.rows())
    assert run.errors()
    assert contents() == before


def test_at_an_address_it_is_the_same(whole):
    address = "memory://bucket/opened"
    for path in whole.rglob("*"):
        if path.is_file():
            (locate(address) / str(path.relative_to(whole))).write_bytes(path.read_bytes())
    here, there = open_run(whole), open_run(address)
    assert there.table().equals(here.table())
    assert there.errors() == here.errors()
    for one, other in zip(here.rows(), there.rows(), strict=True):
        assert np.array_equal(here.heatmap(one).raw, there.heatmap(other).raw)
    with pytest.raises(UsageError, match=r"memory://bucket/none is no run folder: it has no run\.json"):
        open_run("memory://bucket/none")


def test_the_misses_of_a_review(reviewed):
    run = open_run(reviewed)
    misses = list(run.misses())
    assert len(misses) == run.table("misses").height == 2
    assert {row.detection.class_name for row in misses} == set(CLASSES[:2])
    for row, columns in zip(misses, run.table("misses").iter_rows(named=True), strict=True):
        assert isinstance(row, Row)
        assert row.further["where_it_died"] == columns["where_it_died"] == "never_fired"
        assert row.further["truth_id"] in run.table("truths")["id"]
        assert row.detection.xyxy.tolist() == [columns[side] for side in ("x1", "y1", "x2", "y2")]
        assert run.heatmap(row).raw.any()
    errors = [row for row in run.rows() if row.further["error_type"] == "Bkg"]
    assert len(errors) == len(run) > 0  # none of the scene's own things is labelled
    patched = [row for row in errors if row.patch is not None]
    assert patched
    for row in patched:
        assert {"xyxy", "flipped", "control", "before", "after"} <= set(row.patch)
        assert row.evidence is None
        assert run.heatmap(row).raw.any()


def test_a_run_of_an_earlier_schema_is_read(copy):
    table = pl.read_parquet(copy / "detections.parquet")
    table.drop("sentence", "evidence", "forwards").write_parquet(copy / "detections.parquet")
    (copy / "run.json").write_text(json.dumps({**json.loads((copy / "run.json").read_text()), "schema": 1}))
    for row in open_run(copy).rows():
        assert (row.sentence, row.evidence, row.forwards) == ("", None, None)
        assert row.receipt is not None


def spoil_row(path, **columns):
    table = pl.read_parquet(path / "detections.parquet")
    changed = [pl.lit(value).cast(table.schema[name]).alias(name) for name, value in columns.items()]
    table.with_columns(changed).write_parquet(path / "detections.parquet")


def spoil_maps(path, data):
    for file in (path / "heatmaps").iterdir():
        file.write_bytes(data)


def use(path):
    run = open_run(path)
    run.errors()
    for row in run.rows():
        run.heatmap(row)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (shutil.rmtree, r"copy is no run folder: it has no run\.json"),
        (lambda run: (run / "run.json").unlink(), r"copy is no run folder: it has no run\.json"),
        (lambda run: (run / "run.json").write_text("[]"), r"copy/run\.json does not describe a run of detcam$"),
        (
            lambda run: (run / "run.json").write_text('{"schema": 99, "command": "explain"}'),
            r"copy was written by a newer detcam \(schema 99; this one knows 2\)$",
        ),
        (lambda run: (run / "detections.parquet").unlink(), r"copy has no detections\.parquet: it is no finished run"),
        (lambda run: (run / "detections.parquet").write_bytes(b"PAR1"), r"copy/detections\.parquet is damaged: "),
        (lambda run: spoil_row(run, receipt="{"), r"copy/detections\.parquet is damaged: row '.*-000'"),
        (lambda run: spoil_row(run, receipt="[]"), r"copy/detections\.parquet is damaged: row '.*-000'"),
        (lambda run: spoil_row(run, evidence='{"patches": []}'), r"copy/detections\.parquet is damaged: row '.*-000'"),
        (lambda run: spoil_row(run, confidence=2.0), r"is damaged: row '.*-000'.*confidence must lie in"),
        (lambda run: spoil_row(run, status="odd"), r"is damaged: row '.*-000'.*unknown status 'odd'"),
        (lambda run: spoil_row(run, x1=None), r"copy/detections\.parquet is damaged: row '.*-000'"),
        (lambda run: shutil.rmtree(run / "heatmaps"), r"copy/heatmaps/.*\.npz cannot be read"),
        (lambda run: spoil_maps(run, b""), r"copy/heatmaps/.*\.npz cannot be read"),
        (lambda run: spoil_maps(run, b"PK\x03\x04"), r"copy/heatmaps/.*\.npz cannot be read"),
        (lambda run: spoil_row(run, heatmap="../heatmaps/none.npz#a"), r"none\.npz cannot be read"),
        (lambda run: spoil_row(run, scale=float("nan")), r"copy/heatmaps/.* is damaged: a raw map must be finite"),
        (lambda run: (run / "errors.jsonl").write_text("{"), r"copy/errors\.jsonl is damaged"),
        (lambda run: (run / "errors.jsonl").write_text("[]\n"), r"copy/errors\.jsonl is damaged"),
    ],
)
def test_what_cannot_be_read_is_named(copy, spoil, match):
    use(copy)
    spoil(copy)
    with pytest.raises(UsageError, match=match):
        use(copy)


def test_a_map_that_is_not_in_its_file_is_named(copy):
    name = next((copy / "heatmaps").iterdir()).name
    spoil_row(copy, heatmap=f"{name}#other")
    with pytest.raises(UsageError, match=rf"heatmaps/{name} has no map 'other'"):
        use(copy)


def test_an_unfinished_run_says_so(tmp_path):
    RunFolder(tmp_path / "run", "explain", {}).describe()
    with pytest.raises(UsageError, match=r"no finished run of .* explain, running: the same command goes on with it"):
        len(open_run(tmp_path / "run"))


def test_a_run_without_detections_is_empty(tmp_path, demo_detector):
    folder = RunFolder(tmp_path / "run", "explain", {})
    folder.describe()
    nothing = detcam.explain(demo_detector, photograph(64, 64), method="random", conf=0.999)
    folder.add(nothing)
    folder.finish(True)
    run = open_run(folder.path)
    assert len(run) == 0
    assert not list(run.rows())
    assert run.errors() == ()
    assert isinstance(run, Run)


def test_reading_takes_no_torch(whole):
    code = f"import sys, detcam; assert len(detcam.open_run({str(whole)!r})); assert 'torch' not in sys.modules"
    call([sys.executable, "-c", code], check=True)
