"""The report of a review that was interrupted: it shows what there is, or one line says how to go on."""

import numpy as np
import pytest

import detcam
from detcam.cli import main
from detcam.review import api as reviews
from detcam.review import run_review
from support.labelled_sets import yolo

BOX = np.float32([[2, 2, 12, 12]])


def find(images):
    return [(BOX, np.float32([[0.9, 0.1]])) for _ in images]


@pytest.fixture
def detector():
    return detcam.BlackBox(find, {0: "cat", 1: "dog"})


@pytest.fixture
def data(tmp_path):
    """Three images, each with an object that is not found and a box where there is none."""
    return yolo(tmp_path, dict.fromkeys("abc", "0 0.8 0.8 0.1 0.1"), "[cat, dog]")


def interrupted(detector, data, out, monkeypatch, where, after=0):
    """Interrupt a review: the function ``where`` of it, from its call number ``after`` on, as Ctrl-C does."""
    inner, calls = getattr(reviews, where), []

    def interrupt(*arguments, **keywords):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return inner(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(reviews, where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_review(detector, data, out, method="random")


def report(out, capsys):
    capsys.readouterr()
    code = main(["report", str(out)])
    printed = capsys.readouterr()
    return code, printed.out, " ".join(printed.err.split())


def test_errors_that_were_not_explained_are_missing(detector, data, tmp_path, monkeypatch, capsys):
    calls = []
    inner = reviews.Reviewer.__call__

    def stop(self, *arguments):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return inner(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reviews.Reviewer, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            run_review(detector, data, tmp_path / "run", method="random")
    code, printed, told = report(tmp_path / "run", capsys)
    words = (
        "this review was interrupted: the errors of 1 of 3 images are explained, and no causes are tested; the same "
        "detcam review command goes on with it"
    )
    assert code == 0
    assert printed.strip().endswith("index.html")
    assert words in told
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert f"T{words[1:]}." in page
    assert (tmp_path / "run" / "report" / "data.js").read_text().count('"type":"Miss"') == 1
    finished = run_review(detector, data, tmp_path / "run", method="random")
    assert "interrupted" not in finished.page.read_text()


def test_causes_that_were_not_tested_are_missing(detector, data, tmp_path, monkeypatch, capsys):
    interrupted(detector, data, tmp_path / "run", monkeypatch, "write_causes")
    code, _, told = report(tmp_path / "run", capsys)
    assert code == 0
    assert "interrupted: all errors are explained, and no causes are tested; the same detcam review command" in told


def test_a_review_that_only_lacks_its_page_is_whole(detector, data, tmp_path, monkeypatch, capsys):
    interrupted(detector, data, tmp_path / "run", monkeypatch, "build_report")
    code, _, told = report(tmp_path / "run", capsys)
    assert (code, told) == (0, "")


def test_before_its_errors_are_known_there_is_nothing_to_show(detector, data, tmp_path, monkeypatch, capsys):
    interrupted(detector, data, tmp_path / "run", monkeypatch, "detect")
    code, printed, told = report(tmp_path / "run", capsys)
    assert (code, printed) == (2, "")
    assert "no truths.parquet" in told
    assert told.endswith("but holds one of detcam review, interrupted: the same command goes on with it")


def test_a_review_that_was_killed_says_how_to_go_on(detector, data, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(reviews.RunFolder, "finish", lambda self, complete: self.release())  # as if nothing ran any more
        interrupted(detector, data, tmp_path / "run", monkeypatch, "write_causes")
    code, printed, told = report(tmp_path / "run", capsys)
    assert (code, printed) == (2, "")
    assert "no detections.parquet" in told
    assert told.endswith("running: the same command goes on with it")
    finished = run_review(detector, data, tmp_path / "run", method="random")
    assert len(list(finished.misses())) == 3
