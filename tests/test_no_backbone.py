"""Models whose description names no backbone: no layer is called so, and what stands in its place is told."""

import pytest
import torch
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError

IMAGE = render(make_scene(640_001))


@pytest.fixture(scope="module")
def known():
    model = detcam.load(WEIGHTS)
    return model.resolve("backbone"), model.resolve("neck")


@pytest.fixture(params=["none", "empty", "of another tool"])
def weights(request, tmp_path):
    """The bundled detector with a description that does not say which of its layers are the backbone."""
    checkpoint = torch.load(WEIGHTS, map_location="cpu", weights_only=False)
    model = checkpoint["model"]
    yaml = {"none": None, "empty": {**model.yaml, "backbone": []}, "of another tool": {"nc": 5, "layers": 22}}
    model.yaml = yaml[request.param]
    torch.save(checkpoint, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_the_necks_layers_are_not_called_backbone(weights, known, caplog):
    backbone, neck = known
    model = detcam.load(weights)
    assert {name for layer in model.layers() for name in layer.groups} == {"auto", "neck"}
    with pytest.raises(UsageError, match="this model names no backbone layers; detcam layers lists what can be named"):
        model.resolve("backbone")
    assert model.resolve("auto") == backbone
    assert model.resolve("neck") == neck
    (record,) = caplog.records
    assert record.message == (
        "the model's YAML names no backbone: auto takes the layers before the first that joins others or enlarges "
        f"({', '.join(backbone)})"
    )


def test_maps_are_those_of_the_same_model_that_names_it(weights):
    ours, theirs = (detcam.explain(one, IMAGE, method="layercam") for one in (weights, WEIGHTS))
    for one, other in zip(ours, theirs, strict=True):
        assert one.layers == other.layers
        torch.testing.assert_close(torch.tensor(one.heatmap.raw), torch.tensor(other.heatmap.raw))


def test_the_commands_say_so(weights, tmp_path, capsys):
    assert main(["layers", "--weights", str(weights)]) == 0
    printed = capsys.readouterr()
    assert "names no backbone: auto takes" in printed.err
    assert "auto takes the auto group" in printed.out
    assert "backbone" not in printed.out
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    command = ["explain", str(tmp_path / "a.png"), "--weights", str(weights), "--out", str(tmp_path / "run")]
    assert main([*command, "--layers", "backbone"]) == 2
    assert "this model names no backbone layers" in capsys.readouterr().err
