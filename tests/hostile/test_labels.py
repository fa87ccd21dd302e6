"""Labelled sets from strangers: one bad label is named and spoils no other, and nothing else happens."""

import numpy as np
import pytest

from detcam.data import read_data
from detcam.demo import WEIGHTS
from hostile import label_inputs
from hostile.judging import LONGEST_LINE, run_command

pytestmark = pytest.mark.hostile


def read(made, out):
    """Read a set, and see that whatever it gives is sane."""
    labelled = read_data(made.path, **made.options)
    assert labelled.images
    for problem in labelled.problems:
        assert problem.reason.strip()
        assert problem.reason.isprintable(), problem.reason
        assert len(problem.reason) <= LONGEST_LINE, problem.reason
    for note in labelled.notes:
        assert len(note) <= LONGEST_LINE, note
    for image in labelled.images:
        assert min(image.size) > 0
        ids = [truth.id for truth in image.truths]
        assert len(ids) == len(set(ids))
        for truth in image.truths:
            assert np.isfinite(truth.xyxy).all()
            assert (truth.xyxy[2:] > truth.xyxy[:2]).all(), truth
            assert labelled.names[truth.class_id] == truth.class_name
        for truth in image.truths[:20]:
            mask = truth.mask(*image.size)
            assert mask is None or (mask.shape == image.size and mask.dtype == bool)
    if made.kept:
        good = next(image for image in labelled.images if image.path.name == "good.png")
        assert any(np.allclose(truth.xyxy, label_inputs.GOOD_BOX, atol=1e-4) for truth in good.truths), good
    return labelled


FAMILIES = {
    "fields of COCO, first part": lambda seed: list(label_inputs.coco_fields())[::2],
    "fields of COCO, second part": lambda seed: list(label_inputs.coco_fields())[1::2],
    "numbers of COCO": lambda seed: label_inputs.coco_parts(),
    "documents": label_inputs.documents,
    "descriptions": lambda seed: label_inputs.yolo_descriptions(),
    "lines": label_inputs.yolo_lines,
    "places": lambda seed: label_inputs.places(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_labels(family, judge, seed):
    judge("labels", FAMILIES[family](seed), read)


def test_whole_reviews(judge, tmp_path_factory):
    """The command, of which a page, tables and a summary come out."""

    def ask(made, out):
        return run_command("review", "--weights", str(WEIGHTS), "--data", str(made.path), "--out", str(out), "--json")

    right = tmp_path_factory.mktemp("right")
    first = ask(label_inputs.write_coco(label_inputs.coco(), right), right / "out")  # which imports what reviews need
    assert first.code == 0, first.stderr
    judge("labels", label_inputs.whole_reviews(), ask, seconds=120)
