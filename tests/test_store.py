"""The run folder: nothing of the user's is touched, nothing that was done is lost."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import detcam
from detcam.errors import UsageError
from detcam.runs import schema as store
from detcam.runs.folder import RunFolder
from detcam.runs.results import Pictures
from detcam.runs.schema import read_detections, read_heatmap


@pytest.fixture
def result(scene_image, demo_detector):
    return detcam.explain(demo_detector, scene_image, method="layercam")


def finished(path, result, **settings):
    folder = RunFolder(path, "explain", {"conf": 0.25}, **settings)
    folder.describe()
    folder.add(result, Pictures(frozenset({"overlay", "panel"})))
    folder.finish(True)
    return folder


def described(path):
    return json.loads((path / "run.json").read_text())


def test_raw_maps_come_back(tmp_path, result):
    finished(tmp_path / "r", result)
    for row, e in zip(read_detections(tmp_path / "r").rows(named=True), result, strict=True):
        raw = read_heatmap(tmp_path / "r", row["heatmap"], row["scale"])
        assert np.abs(raw - e.heatmap.raw).max() <= 1e-3 * np.abs(e.heatmap.raw).max()
    assert not (tmp_path / "r" / ".parts").exists()


def test_further_pages_of_a_panel_are_written_and_removed(tmp_path, result):
    many = replace(result, explanations=tuple(result)[:1] * 21)  # 8 on the first page, 12 on the second
    finished(tmp_path, many)
    panels = sorted(path.name.partition("-panel")[2] for path in (tmp_path / "overlays").glob("*-panel*"))
    assert panels == ["-2.png", "-3.png", ".png"]
    RunFolder(tmp_path, "explain", {"conf": 0.5}, overwrite=True)
    assert not (tmp_path / "overlays").exists()


@pytest.mark.parametrize("name", ["detections.parquet", "heatmaps", "overlays"])
def test_a_folder_with_files_of_that_name_is_not_touched(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=f"holds '{name}' but no run of detcam"):
        RunFolder(tmp_path, "explain", {})
    assert (tmp_path / name / "mine.txt").read_text() == "mine"


def test_other_files_survive_a_run_and_an_overwriting_one(tmp_path, result):
    (tmp_path / "detections").mkdir()
    (tmp_path / "detections" / "part-1.parquet").write_text("mine")
    finished(tmp_path, result)
    (tmp_path / "overlays" / "mine.png").write_text("mine")
    assert len(list((tmp_path / "overlays").iterdir())) > 1
    RunFolder(tmp_path, "explain", {"conf": 0.5}, overwrite=True)
    assert [file.name for file in (tmp_path / "overlays").iterdir()] == ["mine.png"]
    assert not list((tmp_path / "heatmaps").iterdir())
    assert (tmp_path / "detections" / "part-1.parquet").read_text() == "mine"


def test_an_interrupted_run_says_so_and_keeps_what_it_has(tmp_path, result):
    folder = RunFolder(tmp_path, "explain", {})
    folder.describe()
    assert described(tmp_path)["state"] == "running"
    folder.add(result)
    folder.finish(False)
    assert described(tmp_path)["state"] == "interrupted"
    assert len(read_detections(tmp_path)) == len(result)


def test_a_finished_run_survives_the_interruption_of_the_same_run(tmp_path, result):
    finished(tmp_path, result)
    again = RunFolder(tmp_path, "explain", {"conf": 0.25})
    again.describe()
    assert len(read_detections(tmp_path)) == len(result)
    again.finish(False)
    assert len(read_detections(tmp_path)) == len(result)
    for row in read_detections(tmp_path).rows(named=True):
        assert read_heatmap(tmp_path, row["heatmap"], row["scale"]).any()


def test_errors_are_those_of_the_last_run(tmp_path):
    for reason in ("first", "second"):
        folder = RunFolder(tmp_path, "explain", {})
        folder.describe()
        folder.fail("a.jpg", reason)
        folder.finish(True)
    assert [json.loads(line)["reason"] for line in (tmp_path / "errors.jsonl").read_text().splitlines()] == ["second"]


@pytest.mark.parametrize("text", ["[1]", "{}", "not json", '{"schema": "x", "command": "explain"}', '{"a": 1}'])
def test_a_run_json_of_someone_elses(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="does not describe a run of detcam"):
        RunFolder(tmp_path, "explain", {}, overwrite=True)
    assert (tmp_path / "run.json").read_text() == text


def test_a_newer_schema_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"schema": 99, "command": "explain", "configuration": {}}')
    with pytest.raises(UsageError, match="written by a newer detcam"):
        RunFolder(tmp_path, "explain", {}, overwrite=True)


def test_a_file_name_that_is_no_text(tmp_path, scene_image, demo_detector):
    name = os.fsdecode(b"b\xff.png")
    (result,) = detcam.Explainer(demo_detector, method="layercam").explain_named({name: scene_image})
    folder = RunFolder(tmp_path, "explain", {})
    folder.describe()
    folder.add(result, Pictures(frozenset({"overlay"})))
    folder.fail(name, "reason")
    folder.finish(True)
    assert read_detections(tmp_path)["image"][0] == "b\\xff.png"
    assert json.loads((tmp_path / "errors.jsonl").read_text())["path"] == "b\\xff.png"


def test_a_full_disk_leaves_no_half_file(tmp_path, result, monkeypatch):
    folder = RunFolder(tmp_path, "explain", {})
    folder.describe()

    def full(*arguments, **keywords):
        arguments[0].write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        folder.add(result)
    assert not list((tmp_path / "heatmaps").glob("*.npz"))


def test_failures_are_listed_in_one_order_however_they_came(tmp_path):
    folder = RunFolder(tmp_path, "explain", {})
    for name in ("b.png", "c.png", "a.png"):
        folder.fail(name, "reason")
    folder.finish(True)
    lines = (tmp_path / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a.png", "b.png", "c.png"]
