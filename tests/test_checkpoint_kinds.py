"""Checkpoints as people have them, sealed and trusted: fused, wrapped, compiled, older, with other things inside."""

import copy
import inspect
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import block
from ultralytics.utils import IterableSimpleNamespace

import detcam
from detcam.adapters.known_classes import RENAMED_CLASSES, current_name, find_class
from detcam.adapters.stand_ins import Forgotten
from detcam.adapters.weights import read_checkpoint
from detcam.errors import WeightsError

SAMPLE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[False, True], ids=["sealed", "trusted"])
def trust(request):
    return request.param


def network(name="yolov8n.yaml"):
    torch.manual_seed(0)
    return YOLO(name, verbose=False).model.eval()


def answer(model):
    with torch.no_grad():
        output = model.eval()(SAMPLE)
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


def saved(path, model, **more):
    torch.save({"model": model, "train_args": {"imgsz": 64}, **more}, path)
    return path


def same(path, expected, trust):
    """The model of a checkpoint answers as expected, and can be explained."""
    loaded = read_checkpoint(path, trust)
    assert torch.allclose(answer(loaded), expected, rtol=1e-4, atol=1e-4)
    detcam.load(path, trust_weights=trust)  # which compares both forward passes
    return loaded


@pytest.mark.parametrize("name", ["yolov8n", "yolov10n", "yolo26n", "yolov6n", "yolov9t", "yolo11n-seg"])
def test_a_fused_checkpoint(name, trust, tmp_path):
    model = network(f"{name}.yaml").fuse(verbose=False)
    loaded = same(saved(tmp_path / "best.pt", model), answer(copy.deepcopy(model)), trust)
    conv = loaded.model[0]
    assert conv.forward.__self__ is conv
    assert conv.forward.__func__ is type(conv).forward_fuse


def test_a_model_saved_after_a_prediction(trust, tmp_path, scene_image):
    yolo = YOLO("yolov8n.yaml", verbose=False)
    yolo.predict(scene_image, imgsz=64, verbose=False)
    yolo.save(tmp_path / "saved.pt")
    same(tmp_path / "saved.pt", answer(copy.deepcopy(yolo.model)), trust)


class Asks:
    """Unpickled, it calls what it was given."""

    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def test_getattr_gives_no_attribute_to_a_file(tmp_path):
    conv = network().model[0]
    asked = [(conv, "__init__"), (conv, "register_forward_hook"), (conv, "__class__"), (nn.Conv2d, "__new__")]
    for owner, name in [*asked, (nn.Module, "apply"), (torch.Size, "count")]:
        torch.save({"model": Asks(getattr, owner, name)}, tmp_path / "evil.pt")
        with pytest.raises(WeightsError, match=r"calls getattr\(\.\.\.\) as it is read|not on the list"):
            detcam.load(tmp_path / "evil.pt")
    other = network()
    other.model[0].forward = other.model[1].forward_fuse
    with pytest.raises(WeightsError, match=r"calls getattr"):
        detcam.load(saved(tmp_path / "other.pt", other))


def test_no_function_that_calls_what_it_is_given_is_known(tmp_path, monkeypatch):
    """torch's own list has one, by which a checkpoint called its modules and replaced methods of torch's classes."""
    called = []
    monkeypatch.setattr(nn.Identity, "forward", lambda self, x: called.append(x))
    fused = network().fuse(verbose=False)
    for function in (fused.model[0].forward, fused.model[0], nn.Identity()):
        torch.save(
            {"model": Asks(torch._tensor._rebuild_from_type_v2, function, nn.Identity, (1,), {})}, tmp_path / "e.pt"
        )
        with pytest.raises(WeightsError, match=r"_rebuild_from_type_v2, which is not on the list"):
            detcam.load(tmp_path / "e.pt")
    assert not called


def rename(path, renamed):
    """Give classes in a checkpoint's pickle the names they had."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name in files:
        if name.endswith("data.pkl"):
            for new, old in renamed.items():
                (new_module, _, new_kind), (old_module, _, old_kind) = new.rpartition("."), old.rpartition(".")
                change = (f"c{new_module}\n{new_kind}\n".encode(), f"c{old_module}\n{old_kind}\n".encode())
                assert change[0] in files[name]
                files[name] = files[name].replace(*change)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "old",
    ["ultralytics.nn.tasks.YOLOv10DetectionModel", "ultralytics.yolo.nn.tasks.DetectionModel"],
)
def test_a_model_class_under_an_older_name(old, trust, tmp_path):
    model = network()
    path = rename(saved(tmp_path / "old.pt", model), {"ultralytics.nn.tasks.DetectionModel": old})
    loaded = same(path, answer(model), trust)
    assert type(loaded) is tasks.DetectionModel


def test_the_other_older_names(trust, tmp_path):
    model = network()
    model.model[0].quiet = nn.Identity()
    model.args = IterableSimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    model.criterion = model.init_criterion()
    path = rename(saved(tmp_path / "old.pt", model), {
        "torch.nn.modules.linear.Identity": "ultralytics.nn.modules.block.Silence",
        "ultralytics.utils.IterableSimpleNamespace": "ultralytics.yolo.utils.IterableSimpleNamespace",
        "ultralytics.utils.loss.v8DetectionLoss": "ultralytics.yolo.utils.loss.v8DetectionLoss",
    })  # fmt: skip
    loaded = read_checkpoint(path, trust)
    assert type(loaded.model[0].quiet) is nn.Identity
    assert type(loaded.criterion) is type(model.criterion)
    assert "ultralytics.yolo.utils" not in sys.modules


def test_ultralytics_table_of_older_names_is_ours():
    """Every alias in its loading code is among ours, whichever release is installed."""
    text = inspect.getsource(tasks.torch_safe_load)
    aliases = re.findall(r'"(ultralytics[\w.]+)": "([\w.]+)"', text)
    assert len(aliases) >= 6
    for old, new in aliases:
        if old in RENAMED_CLASSES:
            assert find_class(current_name(old)) is find_class(new)
        else:
            assert current_name(f"{old}.some.Name") == f"{new}.some.Name"


def test_a_cached_text_model_is_left_out(trust, tmp_path, monkeypatch):
    """No package of text models is needed, and the model answers as before."""
    package = types.ModuleType("clip")
    package.model = types.ModuleType("clip.model")

    class CLIP(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Linear(2, 2)

    CLIP.__module__, CLIP.__qualname__ = "clip.model", "CLIP"
    package.model.CLIP = CLIP
    for name, module in {"clip": package, "clip.model": package.model}.items():
        monkeypatch.setitem(sys.modules, name, module)
    model = network("yolov8s-worldv2.yaml")
    model.txt_feats, model.names = torch.randn(1, 3, 512), {0: "pig", 1: "cow", 2: "hen"}
    model.model[-1].nc = 3
    expected = answer(model)
    model.clip_model = CLIP()
    path = saved(tmp_path / "world.pt", model)
    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.delitem(sys.modules, "clip.model")
    loaded = same(path, expected, trust)
    assert not hasattr(loaded, "clip_model")
    assert not any(isinstance(part, Forgotten) for module in loaded.modules() for part in module._modules.values())


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "efficientnet_b0", "mobilenet_v3_small", "densenet121"])
def test_blocks_of_torchvision_inside(name, trust, tmp_path):
    model = network()
    model.model[0].aside = torchvision.models.get_model(name, weights=None)
    path = saved(tmp_path / "mixed.pt", model)
    loaded = same(path, answer(model), trust)
    aside = loaded.model[0].aside.eval()
    assert type(aside) is type(model.model[0].aside)
    with torch.no_grad():
        assert torch.allclose(aside(SAMPLE), model.model[0].aside.eval()(SAMPLE), atol=1e-5)


def wrapped_ddp(model, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(model)


WRAPPINGS = {
    "DataParallel": lambda model, folder: nn.DataParallel(model),
    "DistributedDataParallel": wrapped_ddp,
    "compiled": lambda model, folder: torch.compile(model),
    "averaged": lambda model, folder: torch.optim.swa_utils.AveragedModel(model),
    "twice": lambda model, folder: nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize("whole", [False, True])
def test_wrapped_models(kind, whole, trust, tmp_path):
    model = network()
    expected = answer(model)
    try:
        wrapped = WRAPPINGS[kind](model, tmp_path)
        path = tmp_path / "wrapped.pt"
        torch.save(wrapped if whole else {"model": wrapped, "train_args": {"imgsz": 64}}, path)
        assert type(detcam.load(wrapped).model) is tasks.DetectionModel
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    loaded = read_checkpoint(path, trust)
    assert type(loaded) is tasks.DetectionModel
    assert torch.allclose(answer(loaded), expected, atol=1e-4)


class C2f_Fork(block.C2f):  # noqa: N801
    """What a fork of Ultralytics would have."""


def test_a_class_of_a_fork_that_is_not_installed(trust, tmp_path, monkeypatch):
    C2f_Fork.__module__ = "ultralytics.nn.modules.block"
    monkeypatch.setattr(block, "C2f_Fork", C2f_Fork, raising=False)
    model = network()
    model.model[2].__class__ = C2f_Fork
    path = saved(tmp_path / "fork.pt", model)
    same(path, answer(model), trust)  # as long as the fork is installed
    monkeypatch.delattr(block, "C2f_Fork")
    with pytest.raises(
        WeightsError, match=r"needs C2f_Fork .* from the fork of Ultralytics .*install that fork"
    ) as caught:
        detcam.load(path, trust_weights=trust)
    assert "\n" not in str(caught.value)


def test_a_class_of_a_package_that_is_not_installed(trust, tmp_path, monkeypatch):
    mine = types.ModuleType("mymodels")
    mine.Block = type("Block", (nn.Module,), {"__module__": "mymodels", "forward": lambda self, x: x})
    monkeypatch.setitem(sys.modules, "mymodels", mine)
    model = network()
    model.model[0].mine = mine.Block()
    path = saved(tmp_path / "mine.pt", model)
    monkeypatch.delitem(sys.modules, "mymodels")
    with pytest.raises(
        WeightsError, match=r"needs mymodels\.Block, of a Python module 'mymodels' that is not installed"
    ):
        detcam.load(path, trust_weights=trust)


def test_a_whole_yolo_object(tmp_path):
    yolo = YOLO("yolov8n.yaml", verbose=False)
    torch.save(yolo, tmp_path / "yolo.pt")
    with pytest.raises(WeightsError, match=r"not on the list of classes that are safe"):
        detcam.load(tmp_path / "yolo.pt")
    loaded = read_checkpoint(tmp_path / "yolo.pt", trust=True)
    assert torch.allclose(answer(loaded), answer(yolo.model), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("key", ["ch", "channels"])
def test_models_of_other_than_three_channels_are_refused_in_one_line(channels, key, trust, tmp_path):
    model = tasks.DetectionModel("yolov8n.yaml", ch=channels, verbose=False)
    del model.yaml["channels"]
    model.yaml[key] = channels
    with pytest.raises(WeightsError, match=rf"takes {channels}-channel images; detcam explains RGB") as caught:
        detcam.load(saved(tmp_path / "grey.pt", model), trust_weights=trust)
    assert "\n" not in str(caught.value)
    del model.yaml[key]
    with pytest.raises(WeightsError, match="forward pass of this DetectionModel fails"):
        detcam.load(model)


def test_pickles_of_numpy_under_either_name(trust, tmp_path):
    path = saved(tmp_path / "best.pt", network(), fitness=np.float64(0.5))
    core = np.float64(0).__reduce__()[0].__module__
    other = core.replace("_core", "core") if "_core" in core else core.replace("core", "_core")
    rename(path, {f"{core}.scalar": f"{other}.scalar"})
    assert isinstance(read_checkpoint(path, trust), tasks.DetectionModel)
