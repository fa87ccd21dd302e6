"""Checkpoints from strangers: pickles that call, damaged archives, and a right checkpoint with one value replaced."""

from __future__ import annotations

import copy
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import IterableSimpleNamespace

from hostile.judging import Input
from hostile.odd_values import damaged

TINY = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [4, 3, 8]], [-1, 1, "Conv", [4, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]],
    "head": [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 1], 1, "Concat", [1]], [[4, 2], 1, "Detect", ["nc"]]],
}
"""The smallest network with every part: two levels, an enlargement, a join."""


@cache
def _tiny() -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(copy.deepcopy(TINY), verbose=False).eval()
    model.names = {0: "cat", 1: "dog"}
    return model


def tiny_checkpoint() -> dict[str, Any]:
    """A right checkpoint of a detector that answers in a millisecond."""
    return {"model": copy.deepcopy(_tiny()), "ema": None, "train_args": {"imgsz": 64}, "epoch": 3, "date": "today"}


def saved(value: Any, **options: Any) -> bytes:
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """What is in an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@cache
def _right_members() -> dict[str, bytes]:
    return members(saved(tiny_checkpoint()))


def with_pickle(pickled: bytes) -> bytes:
    """A right checkpoint's archive with another pickle in it."""
    return archived({name: pickled if name.endswith("data.pkl") else data for name, data in _right_members().items()})


def _file(name: str, data: bytes, accepted: bool | None = None, suffix: str = ".pt") -> Input:
    def make(folder: Path) -> Path:
        path = folder / f"weights{suffix}"
        path.write_bytes(data)
        return path

    return Input(name, make, accepted)


FUNCTIONS = [
    "os.system", "posix.system", "nt.system", "os.mkdir", "os.remove", "builtins.eval", "builtins.exec",
    "builtins.open", "builtins.__import__", "builtins.getattr", "builtins.setattr", "builtins.delattr",
    "builtins.type", "builtins.object", "builtins.super", "builtins.vars", "builtins.map", "builtins.print",
    "builtins.breakpoint", "subprocess.Popen", "subprocess.run", "runpy.run_path", "runpy._run_code",
    "importlib.import_module", "shutil.rmtree", "socket.socket", "urllib.request.urlopen", "webbrowser.open",
    "code.interact", "pdb.run", "timeit.timeit", "cProfile.run", "ctypes.CDLL", "operator.attrgetter",
    "operator.methodcaller", "operator.call", "functools.partial", "functools.reduce", "types.FunctionType",
    "types.CodeType", "types.SimpleNamespace", "copyreg._reconstructor", "copyreg.__newobj__",
    "copyreg.add_extension", "copyreg.pickle", "pickle.loads", "pickle._loads", "marshal.loads", "shelve.open",
    "zipfile.ZipFile", "tempfile.mktemp", "logging.config.dictConfig", "logging.FileHandler", "pydoc.locate",
    "pydoc.pipepager", "bdb.Bdb", "asyncio.run", "multiprocessing.Process", "threading.Thread",
    "signal.raise_signal", "sys.exit", "sys.setrecursionlimit", "gc.disable", "atexit.register", "site.main",
    "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.lib.npyio.load", "numpy.f2py.crackfortran.myeval",
    "numpy.testing._private.utils.runstring", "numpy.distutils.exec_command.exec_command", "PIL.Image.open",
    "cv2.imread", "torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "torch.ops.load_library",
    "torch.classes.load_library", "torch.compile", "torch.set_default_dtype", "torch.set_num_threads",
    "torch.manual_seed", "torch.zeros", "torch.full", "torch.empty", "torch.Tensor", "torch.tensor",
    "torch.from_file", "torch.UntypedStorage.from_file", "torch.storage._load_from_bytes",
    "torch._utils._rebuild_from_type_v2", "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_meta_tensor_no_storage", "torch._utils._rebuild_wrapper_subclass",
    "torch._utils._rebuild_device_tensor_from_numpy", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor", "torch._utils._set_obj_state",
    "torch._utils._import_dotted_name", "torch.serialization.add_safe_globals",
    "torch.serialization.clear_safe_globals", "torch.serialization.set_default_mmap_options",
    "torch.distributed.init_process_group", "torch.multiprocessing.spawn", "torch.utils.cpp_extension.load_inline",
    "torch.utils.collect_env.run", "torch._dynamo.optimize", "torch.nn.Module.__setattr__", "torch.nn.Module.apply",
    "torch.nn.functional.relu", "torch.nn.Linear", "torch.nn.modules.linear.Linear",
    "torch.nn.modules.module.Module", "torch.nn.modules.module.register_module_forward_hook",
    "torch.nn.modules.conv.Conv2d", "torch.nn.modules.rnn.LSTM", "torch.nn.modules.container.Sequential",
    "torch.nn.modules.lazy.LazyModuleMixin", "torch.nn.utils.parametrize.register_parametrization",
    "torch.fx.graph_module.reduce_graph_module", "torch.package.PackageImporter", "torch.export.load",
    "ultralytics.YOLO", "ultralytics.nn.tasks.DetectionModel", "ultralytics.nn.tasks.YOLOEModel",
    "ultralytics.nn.tasks.Ensemble", "ultralytics.nn.tasks.attempt_load_weights",
    "ultralytics.nn.tasks.torch_safe_load", "ultralytics.nn.tasks.load_checkpoint",
    "ultralytics.nn.tasks.SafeUnpickler", "ultralytics.nn.tasks.SafeClass", "ultralytics.nn.tasks.Path",
    "ultralytics.nn.tasks.parse_model", "ultralytics.nn.tasks.yaml_model_load",
    "ultralytics.nn.tasks.temporary_modules", "ultralytics.nn.distill_model.DistillationModel",
    "ultralytics.nn.modules.block.TorchVision", "ultralytics.nn.modules.block.C2f",
    "ultralytics.nn.modules.conv.Conv", "ultralytics.nn.modules.head.Detect",
    "ultralytics.nn.modules.head.YOLOEDetect", "ultralytics.nn.autobackend.AutoBackend",
    "ultralytics.utils.downloads.safe_download", "ultralytics.utils.downloads.download",
    "ultralytics.utils.checks.check_requirements", "ultralytics.utils.loss.v8DetectionLoss",
    "ultralytics.utils.tal.TaskAlignedAssigner", "ultralytics.utils.SettingsManager", "ultralytics.utils.YAML.load",
    "ultralytics.utils.YAML.save", "ultralytics.utils.LOGGER", "ultralytics.hub.login",
    "ultralytics.data.augment.CenterCrop", "ultralytics.data.augment.LetterBox",
    "ultralytics.utils.IterableSimpleNamespace", "torchvision.models.resnet.ResNet", "torchvision.models.resnet18",
    "torchvision.models.get_model", "torchvision.transforms.transforms.Lambda",
    "torchvision.transforms.transforms.Compose", "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.io.read_image", "torchvision.datasets.utils.download_url",
    "torchvision.transforms.functional.InterpolationMode", "models.yolo.Model", "models.yolo.Detect",
    "models.common.Conv", "models.common.DetectMultiBackend", "models.common.AutoShape",
    "models.experimental.attempt_load", "utils.general.check_requirements", "yolov5.models.yolo.Model",
    "collections.OrderedDict", "collections.Counter", "collections.defaultdict", "collections.namedtuple",
    "_codecs.encode", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.Path.write_text",
    "enum.Enum", "datetime.datetime", "builtins.bytearray", "builtins.bytes", "builtins.complex", "builtins.list",
    "builtins.set", "builtins.frozenset", "builtins.dict", "torch.Size", "torch.device", "torch.dtype",
    "torch.nn.parameter.Parameter", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
    "torch.serialization._get_layout", "torch.torch_version.TorchVersion", "numpy.dtype", "numpy.ndarray",
    "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct", "clip.model.CLIP", "mobileclip.MobileCLIPTS", "contextlib.nullcontext",
    "__main__.A", "detcam.load", "detcam.adapters.weights.read_checkpoint", "a..b", "..", "a b.c", "é.x", "",
    "os.path.join.__call__", "torch.nn.modules.conv.torch.load",
]  # fmt: skip
"""What a pickle may call: things that run, read, write, connect or change the process; and what detcam knows."""


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _global(name: str) -> bytes:
    module, _, kind = name.rpartition(".")
    return b"c" + module.encode() + b"\n" + kind.encode() + b"\n"


def _stack_global(name: str) -> bytes:
    module, _, kind = name.rpartition(".")
    return _text(module) + _text(kind) + b"\x93"


MARKER = "touch touched-by-a-checkpoint"
ARGUMENTS = {
    "a command": _text(MARKER) + b"\x85",
    "nothing": b")",
    "a huge number": b"\x8a\x07\xff\xff\xff\xff\xff\xff\x7f\x85",
    "itself twice": b"))\x86",
    "a list": b"](K\x01K\x02e\x85",
    "five": b"(NK\x00)K\x01Nt",
}
ROUTES: dict[str, Callable[[str, bytes], bytes]] = {
    "reduced": lambda name, given: _global(name) + given + b"R",
    "new": lambda name, given: _global(name) + given + b"\x81",
    "new with keywords": lambda name, given: _global(name) + given + b"}" + _text("a") + b"K\x01s\x92",
    "by the stack": lambda name, given: _stack_global(name) + given + b"R",
    "an object": lambda name, given: b"(" + _global(name) + _text(MARKER) + b"o",
    "an instance": lambda name, given: b"(" + _text(MARKER) + b"i" + _global(name)[1:],
    "built": lambda name, given: _global(name) + b")\x81}" + _text("__class__") + _global(name) + b"sb",
    "built with slots": lambda name, given: _global(name) + b")\x81N}" + _text("forward") + _global(name) + b"s\x86b",
    "filled": lambda name, given: _global(name) + b")R(" + _text("a") + _global(name) + b"u",
    "appended": lambda name, given: _global(name) + b")R(" + given + b"e",
    "by the memo": lambda name, given: _global(name) + b"q\x000h\x00" + given + b"R",
    "named": lambda name, given: _global(name),
    "a name filled": lambda name, given: _global(name) + b"}" + _text("forward") + b"K\x01sb",
    "called twice": lambda name, given: _global(name) + given + b"R" + given + b"R",
    "stored": lambda name, given: _global(name) + b"Q",
}


def calls(seed: int) -> Iterator[Input]:
    """Each function by a few routes, and each route by several functions: in the model's place, or beside the model."""
    random = Random(seed)
    for number, name in enumerate(FUNCTIONS):
        for route in random.sample(list(ROUTES), 3):
            given = random.choice(list(ARGUMENTS))
            call = ROUTES[route](name, ARGUMENTS[given])
            protocol = b"\x80" + bytes([random.choice((2, 2, 3, 4, 5))]) if number % 7 else b""
            value = protocol + b"}" + _text("model") + call + b"s."
            yield _file(f"{name} {route} with {given}", with_pickle(value))


def opcodes() -> Iterator[Input]:
    """Every opcode at a place where it does not belong, and what no checkpoint has."""
    for code in range(256):
        yield _file(f"opcode {code:#x} alone", with_pickle(b"\x80\x02" + bytes([code]) + b"."), None)
        yield _file(
            f"opcode {code:#x} on a dict", with_pickle(b"\x80\x04}" + bytes([code]) + b"\x01\x01\x01\x01\n\n."), None
        )
    odd = {
        "a list in itself": b"]q\x00h\x00a.",
        "a dict in itself": b"}q\x00" + _text("model") + b"h\x00s.",
        "nested lists": b"]" * 50_000 + b"a" * 49_999 + b".",
        "nested tuples": b")" + b"\x85" * 100_000 + b".",
        "a doubling list": b"]" + b"q\x00]h\x00ah\x00a" * 60 + b".",
        "marks": b"(" * 100_000 + b".",
        "a number of a million bits": b"\x8b" + struct.pack("<i", 125_000) + b"\x7f" * 125_000 + b".",
        "a number of many digits": b"I" + b"9" * 5000 + b"\n.",
        "a text longer than the file": b"X\xff\xff\xff\x7fa.",
        "a text of no length": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        "a frame longer than the file": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "the memo of nobody": b"h\x05.",
        "a high memo": b"}r\xff\xff\xff\x7f.",
        "keys that collide": b"}("
        + b"".join(b"\x8a\x0a" + ((2**61 - 1) * n).to_bytes(10, "little") + b"N" for n in range(60_000))
        + b"u.",
        "an unhashable key": b"}]Ns.",
        "an object as a key": b"}" + _global("collections.OrderedDict") + b")RNs.",
        "an unhashable member": b"\x8f(]\x90.",
        "protocol 200": b"\x80\xc8N.",
        "an extension": b"\x82\x01.",
        "a persistent text": b"Pabc\n.",
        "a buffer": b"\x97.",
        "a buffer read only": b"N\x98.",
        "no end": b"}" * 10,
        "empty": b"",
        "a float of letters": b"Fabc\n.",
        "not a number": _text("model") + b"G\x7f\xf8\0\0\0\0\0\0\x86.",
    }
    for name, pickled in odd.items():
        yield _file(name, with_pickle(b"\x80\x02" + pickled if pickled[:1] != b"\x80" else pickled), False)


def archives(seed: int) -> Iterator[Input]:
    """Archives cut off, changed, inflated, doubled, with other names; and files that are none."""
    random, right = Random(seed), saved(tiny_checkpoint())
    files = members(right)
    root = next(iter(files)).partition("/")[0]
    for name, data in damaged(right, random, 240):
        yield _file(f"the file {name}", data)
    for name, data in damaged(files[f"{root}/data.pkl"], random, 360):
        yield _file(f"the pickle {name}", with_pickle(data))
    end = right.rfind(b"PK\5\6")
    for at in range(end, len(right)):
        for value in (0, 255):
            yield _file(f"the end's byte {at - end} is {value}", right[:at] + bytes([value]) + right[at + 1 :])
    middle = right.rfind(b"PK\1\2")
    for at in range(middle, middle + 46):
        for value in (0, 1, 255):
            yield _file(f"an entry's byte {at - middle} is {value}", right[:at] + bytes([value]) + right[at + 1 :])
    bomb = archived(files | {f"{root}/data/0": b"\0" * 2**28}, zipfile.ZIP_DEFLATED)
    yield _file("a bomb", bomb, False)
    yield _file(
        "a pickle that is a bomb", archived(files | {f"{root}/data.pkl": b"N" * 2**28}, zipfile.ZIP_DEFLATED), False
    )
    yield _file("deflated", archived(files, zipfile.ZIP_DEFLATED), False)
    yield _file("bzip2", archived(files, zipfile.ZIP_BZIP2), False)
    yield _file("stored anew", archived(files), True)
    yield _file("of the older format", saved(tiny_checkpoint(), _use_new_zipfile_serialization=False), True)
    older = saved(tiny_checkpoint(), _use_new_zipfile_serialization=False)
    for name, data in damaged(older, random, 120):
        yield _file(f"the older format {name}", data)
    for cut in range(0, len(older), max(len(older) // 60, 1)):
        yield _file(f"the older format cut at {cut}", older[:cut], False)
    for cut in range(0, len(right), max(len(right) // 60, 1)):
        yield _file(f"cut at {cut}", right[:cut], False)
    for order in (b"big", b"odd", b"", b"little\n", b"\xff"):
        yield _file(f"byte order {order!r}", archived(files | {f"{root}/byteorder": order}))
    for extra in (
        "../../escape",
        "/etc/passwd",
        f"{root}/../data.pkl",
        "a/data.pkl",
        f"{root}/constants.pkl",
        "x" * 60_000,
    ):
        yield _file(f"also {extra[:40]}", archived(files | {extra: b"x"}))
    for kept in ("data.pkl", "data/0", "data/1", "byteorder", "version"):
        yield _file(f"without {kept}", archived({k: v for k, v in files.items() if k != f"{root}/{kept}"}))
        short = {k: v[:-1] if k == f"{root}/{kept}" else v for k, v in files.items()}
        yield _file(f"a shorter {kept}", archived(short))
        yield _file(
            f"a longer {kept}", archived({k: v + b"xxxx" if k == f"{root}/{kept}" else v for k, v in files.items()})
        )
    for prefix in (
        b"x",
        b"PK",
        b"\x7fELF",
        b"#!/bin/sh\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"%PDF",
        b"\0" * 9,
    ):
        yield _file(f"{prefix!r} before it", prefix + right, False)
        yield _file(f"{prefix!r} alone", prefix, False)
        if find_spec("onnxruntime") is not None:
            yield _file(f"{prefix!r} as .onnx", prefix, False, ".onnx")
    for suffix in (".pth", ".txt", ".engine", ".torchscript", ".tflite", "", ".PT"):
        yield _file(f"a checkpoint called {suffix or 'nothing'}", right, None, suffix)


class _Odd:
    """Pickled, it is what a function gives."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def odd_values() -> dict[str, Any]:
    """What may stand in the place of any value of a checkpoint."""
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    return {
        "None": None,
        "True": True,
        "0": 0,
        "-1": -1,
        "10**9": 10**9,
        "2**63": 2**63,
        "2**100": 2**100,
        "0.5": 0.5,
        "1e9": 1e9,
        "1e308": 1e308,
        "infinity": float("inf"),
        "nan": float("nan"),
        "a text": "a",
        "no text": "",
        "a long text": "x" * 100_000,
        "lines": "a\nb\x1b[31m",
        "bytes": b"x",
        "a list": [],
        "a list of one": [1],
        "a list of texts": ["a"],
        "huge sizes": [10**9, 10**9],
        "a dict": {},
        "odd keys": {"a": {1: 2}},
        "a tuple": (),
        "a set": {1},
        "deep": deep,
        "a tensor": torch.zeros(2),
        "an empty tensor": torch.zeros(0),
        "a tensor of nan": torch.full((2,), float("nan")),
        "a large tensor": torch.full((3,), 1e30),
        "a module": nn.Identity(),
        "a convolution": nn.Conv2d(3, 3, 1),
        "a class": nn.Conv2d,
        "a parameter": nn.Parameter(torch.zeros(3)),
        "a device": torch.device("cuda:7"),
        "a dtype": torch.float16,
        "a size": torch.Size([1, 2]),
        "a path": Path("/etc/passwd"),
        "a namespace": IterableSimpleNamespace(a=1),
        "an ordered dict": OrderedDict(a=1),
    }


def places() -> dict[str, Callable[[dict[str, Any], Any], None]]:
    """Where a value can be replaced in a checkpoint."""
    found: dict[str, Callable[[dict[str, Any], Any], None]] = {}
    for key in ("model", "ema", "train_args"):
        found[key] = lambda checkpoint, value, key=key: checkpoint.__setitem__(key, value)
    found["train_args.imgsz"] = lambda checkpoint, value: checkpoint["train_args"].__setitem__("imgsz", value)
    attributes = [
        *[
            ("", name)
            for name in (
                "stride",
                "names",
                "yaml",
                "save",
                "task",
                "args",
                "inplace",
                "forward",
                "criterion",
                "_forward_hooks",
                "_modules",
                "_parameters",
                "_buffers",
                "training",
                "float",
                "predict",
                "__class__",
                "_compiled_call_impl",
                "end2end",
                "nc",
            )
        ],
        *[
            ("model.5", name)
            for name in (
                "stride",
                "nc",
                "nl",
                "no",
                "reg_max",
                "f",
                "i",
                "export",
                "dynamic",
                "anchors",
                "strides",
                "shape",
                "format",
                "_modules",
                "_buffers",
                "max_det",
                "end2end",
                "_forward_pre_hooks",
                "xyxy",
                "legacy",
            )
        ],
        *[
            ("model.0.conv", name)
            for name in (
                "stride",
                "padding",
                "dilation",
                "groups",
                "padding_mode",
                "kernel_size",
                "in_channels",
                "_parameters",
                "_reversed_padding_repeated_twice",
                "forward",
            )
        ],
        *[("model.0.bn", name) for name in ("eps", "momentum", "track_running_stats", "_buffers", "num_features")],
        *[
            ("model.3", name)
            for name in ("scale_factor", "size", "mode", "align_corners", "recompute_scale_factor", "f")
        ],
        *[("model.4", name) for name in ("d", "f")],
        *[("model.0", name) for name in ("act", "f", "i", "type", "np", "forward_fuse", "_modules")],
    ]
    for owner, name in attributes:

        def replace(checkpoint: dict[str, Any], value: Any, owner: str = owner, name: str = name) -> None:
            vars(checkpoint["model"].get_submodule(owner))[name] = value

        found[f"{owner or 'the model'}.{name}"] = replace
    for name in ("model.0.conv.weight", "model.5.cv3.0.2.bias", "model.5.dfl.conv.weight"):

        def weigh(checkpoint: dict[str, Any], value: Any, name: str = name) -> None:
            owner, _, part = name.rpartition(".")
            checkpoint["model"].get_submodule(owner)._parameters[part] = value

        found[f"the parameter {name}"] = weigh
    return found


def replaced(part: int, parts: int) -> Iterator[Input]:
    """A right checkpoint with one value replaced by each odd one.

    Args:
        part, parts: which share of them.
    """
    chances = [(place, value) for place in places() for value in odd_values()]
    for place, value in chances[part::parts]:
        checkpoint = tiny_checkpoint()
        try:
            places()[place](checkpoint, odd_values()[value])
            data = saved(checkpoint)
        except Exception:  # it cannot be written, so nobody can hand it over
            continue
        yield _file(f"{place} is {value}", data)


def tensors(seed: int) -> Iterator[Input]:
    """Tensors that lie outside of their memory, overlap, repeat or are of other kinds."""
    random = Random(seed)
    rebuild, storage = torch._utils._rebuild_tensor_v2, torch.zeros(108).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    numbers = [0, 1, 3, 4, -1, 107, 108, 109, 10**9, 2**40, 2**62, 2**63, 2**64, 1.5, None, "1", True]
    for number in range(160):
        size = tuple(random.choice(numbers) for _ in range(random.choice((0, 1, 2, 4, 4, 4))))
        stride = tuple(random.choice(numbers) for _ in range(len(size) if number % 5 else random.randrange(6)))
        checkpoint = tiny_checkpoint()
        checkpoint["beside"] = _Odd(rebuild, (typed, random.choice(numbers), size, stride, False, OrderedDict()))
        yield _file(f"a tensor of {size} in steps of {stride}", saved(checkpoint))
    many = tiny_checkpoint()
    many["beside"] = [_Odd(rebuild, (typed, 0, (108,), (1,), False, OrderedDict())) for _ in range(20_000)]
    yield _file("one memory as twenty thousand tensors", saved(many), False)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        checkpoint = tiny_checkpoint()
        checkpoint["model"].to(dtype)
        yield _file(f"in {dtype}", saved(checkpoint), True)
    for dtype in (torch.int64, torch.int8, torch.bool, torch.complex64, torch.uint8):
        checkpoint = tiny_checkpoint()
        weight = checkpoint["model"].model[0].conv._parameters
        weight["weight"] = nn.Parameter(weight["weight"].detach().to(dtype), requires_grad=False)
        yield _file(f"one weight in {dtype}", saved(checkpoint))
    for fill in (float("nan"), float("inf"), 1e38, -1e38, 0.0, 1e-45):
        checkpoint = tiny_checkpoint()
        for parameter in checkpoint["model"].parameters():
            parameter.data.fill_(fill)
        yield _file(f"all weights are {fill}", saved(checkpoint))


def structures() -> Iterator[Input]:
    """Modules in each other: shared, endless, doubled, deep; enlargements in a row; other objects as the model."""

    def built(change: Callable[[Any], Any]) -> bytes:
        checkpoint = tiny_checkpoint()
        change(checkpoint)
        return saved(checkpoint)

    def doubled(checkpoint: Any) -> None:
        module: nn.Module = nn.Identity()
        for _ in range(40):
            module = nn.Sequential(module, module)
        checkpoint["model"].model[0].act = module

    def deep(checkpoint: Any) -> None:
        module: nn.Module = nn.Identity()
        for _ in range(200):
            module = nn.Sequential(module)
        checkpoint["model"].model[0].act = module

    def endless(checkpoint: Any) -> None:
        checkpoint["model"].model[0]._modules["act"] = checkpoint["model"].model[0]

    def enlarged(times: int, by: float) -> Callable[[Any], None]:
        def change(checkpoint: Any) -> None:
            checkpoint["model"].model[0].act = nn.Sequential(*[nn.Upsample(scale_factor=by) for _ in range(times)])

        return change

    def act(module: Callable[[], Any]) -> Callable[[Any], None]:
        def change(checkpoint: Any) -> None:
            checkpoint["model"].model[0].act = module()

        return change

    changes: dict[str, Callable[[Any], None]] = {
        "doubled forty times": doubled,
        "two hundred deep": deep,
        "in itself": endless,
        **{f"enlarged {n} times by {by}": enlarged(n, by) for n in (1, 8, 30) for by in (4, 1e3, 1e9)},
        "padded by a billion": act(lambda: nn.ZeroPad2d(10**9)),
        "padded by ten thousand": act(lambda: nn.ZeroPad2d(10**4)),
        "reflected": act(lambda: nn.ReflectionPad2d(10**6)),
        "pooled": act(lambda: nn.AdaptiveAvgPool2d(10**6)),
        "pooled little": act(lambda: nn.MaxPool2d(10**6, padding=5 * 10**5)),
        "transposed": act(lambda: nn.ConvTranspose2d(4, 4, 2, 10**6)),
        "wide steps": act(lambda: nn.Conv2d(4, 4, 3, padding=10**9, dilation=10**9)),
        "shuffled": act(lambda: nn.PixelShuffle(10**6)),
        "flattened": act(nn.Flatten),
        "dropped": act(lambda: nn.Dropout(0.9)),
        "a loss": act(nn.CrossEntropyLoss),
        "unfolded": act(lambda: nn.Unfold(3)),
        "an embedding": act(lambda: nn.Embedding(3, 4)),
        "recurrent": act(lambda: nn.LSTM(4, 4)),
        "attention": act(lambda: nn.MultiheadAttention(4, 2)),
        "softmax": act(nn.Softmax),
        "bilinear": act(lambda: nn.Bilinear(2, 2, 2)),
    }
    for name, change in changes.items():
        try:
            data = built(change)
        except RecursionError:
            continue
        yield _file(name, data)
    yield _file("no model", saved({}), False)
    yield _file("a state", saved(_tiny().state_dict()), False)
    yield _file("a tensor", saved(torch.zeros(3)), False)
    yield _file("a plain pickle", pickle.dumps({"model": 1}), False)
    yield _file("a plain pickle that calls", pickle.dumps(_Odd(os.system, (MARKER,))), False)
    yield _file("right", saved(tiny_checkpoint()), True)
    yield _file("whole", saved(copy.deepcopy(_tiny())), True)
    for protocol in (3, 4, 5):
        yield _file(f"protocol {protocol}", saved(tiny_checkpoint(), pickle_protocol=protocol), True)
