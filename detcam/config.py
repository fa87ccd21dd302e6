"""The commands' configurations as typed dataclasses: a command line option or a YAML key for every field.

A field's ``metadata`` holds what ``--help`` says of it, and its option where that is not the field's name; ``examples``
are command lines that work. A configuration refuses values that cannot be with a ``UsageError`` when it is made, before
torch is imported and any weights are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from detcam.errors import UsageError
from detcam.options import (
    MAX_PIXELS,
    brought_names,
    check_contestants,
    check_counts,
    check_detection,
    check_fusion,
    check_layers,
    check_method_name,
    check_question,
    check_shares,
    check_smoothing,
    check_target_name,
    check_thresholds,
    several,
)
from detcam.runtime import (
    check_device_name,
    check_engine,
    check_half,
    check_pictures,
    check_port,
    check_sides,
)
from detcam.texts import numbers, renames, split_list


def option(default: Any, help_text: str, takes: str = "", flag: str | None = None, advanced: bool = False) -> Any:
    """A dataclass field with what ``--help`` says of its option.

    Args:
        default: an empty list is made anew for each configuration.
        help_text: what the option does: units, range, and the default where it is not the value itself.
        takes: what stands behind the option, ``FILE``; empty for a switch.
        flag: the option's name where a Python name cannot be it.
        advanced: for special cases: told of by ``--help-all`` alone.
    """
    metadata = {"help": help_text, "takes": takes, "flag": flag, "advanced": advanced}
    return (
        field(default_factory=list, metadata=metadata) if default == [] else field(default=default, metadata=metadata)
    )


@dataclass(frozen=True)
class ModelConfig:
    """Which detector, and how it runs; names and defaults are those of Ultralytics."""

    weights: str = option("", "checkpoint (.pt), or an official Ultralytics name such as yolo26n.pt", "FILE")
    imgsz: int | str | list[int] | None = option(
        None, "input size in pixels, one side or height,width (default: as trained)", "PIXELS"
    )
    device: str | int | None = option(
        None, "cpu, cuda:0, ... (default: cpu; with --engine ray the GPUs there are)", "NAME"
    )
    half: bool = option(False, "compute in float16 (CUDA only)")
    nms: bool | None = option(
        None, "end-to-end models: false takes the NMS-free branch (default: as predict() does)", "true|false",
        advanced=True,
    )  # fmt: skip
    yolov5_repo: str | None = option(
        None, "a clone of ultralytics/yolov5, for weights in its original format", "DIR", advanced=True
    )
    trust_weights: bool = option(False, "load weights of unknown classes: runs whatever code is in the file")

    def __post_init__(self) -> None:
        sides = numbers(self.imgsz, "imgsz", int)
        if sides is not None:
            check_sides(sides)
        if not brought_names("detcam.adapters"):  # which may know other devices
            self._check_device()

    def _check_device(self) -> None:
        """Refuse a device and a precision that cannot be: a file's weights are on the CPU where no device is named."""
        if self.device is not None:
            check_device_name(self.device)
        check_half(self.half, "cpu" if self.device is None else self.device)


@dataclass(frozen=True)
class ExplainConfig(ModelConfig):
    """Explain every detection of some images: a map, a picture and a sentence each."""

    examples: ClassVar[tuple[str, ...]] = (
        "detcam explain photos/ --weights best.pt --out runs/why",
        "detcam explain bus.jpg --weights yolo26n.pt --detection 0 --verify",
    )
    source: list[str] = option(
        [], "images, videos, camera:0, folders, glob patterns, lists, data sets, - for a list on stdin", "SOURCE"
    )
    out: str = option("runs/explain", "the run folder, or an address: s3://bucket/run", "DIR")
    method: str = option(
        "auto",
        "how a map is made; `detcam methods` lists them. auto: effect, or layercam where layers, fusion or smoothing "
        "are asked for",
        "NAME",
    )
    layers: str | list[str] = option("auto", "auto, backbone, neck, or module paths: model.15,model.18", "NAMES")
    target: str = option(
        "class",
        "what is explained: class, against, probability, score, box, left, top, right, bottom, combined, iou, "
        "objectness, mask, keypoint:N, contrast:CLASS",
        "NAME",
    )
    smoothing: str | list[str] | None = option(
        None, "average the maps over changed views: aug, eigen, noise, or several", "NAMES", advanced=True
    )
    fusion: str = option("sum", "how the maps of several layers become one: sum, mean, max", "NAME", advanced=True)
    budget: int | None = option(
        None, "forward passes of methods that mask the image, at least 1 (default: the method's own)", "PASSES",
        advanced=True,
    )  # fmt: skip
    conf: float = option(0.25, "least confidence of a detection, 0 to 1", "SHARE")
    iou: float = option(0.7, "overlap, 0 to 1, above which the weaker box is dropped", "SHARE")
    classes: str | list[str | int] | None = option(
        None, "keep only these classes, by name or index: person,car (default: all)", "NAMES"
    )
    max_det: int = option(300, "most detections per image", "COUNT")
    batch: int = option(1, "images of one shape that share a forward pass", "COUNT")
    detection: str | int | list[int] | None = option(
        None, "explain only these, counted from 0 by confidence: 0,2 (default: all)", "NUMBERS"
    )
    box: str | list[float] | None = option(
        None, "ask about a box that was not reported, in the image's pixels; with --class", "X1,Y1,X2,Y2"
    )
    class_name: str | None = option(None, "the class asked about with --box", "NAME", flag="class")
    verify: bool = option(False, "test each map by removing what is hot; one that fails is made otherwise")
    save: str | list[str] = option("overlay,panel", "pictures: overlay, heatmap, panel, video, none", "NAMES")
    colormap: str = option(
        "inferno", "of the pictures, any of matplotlib's: inferno, viridis, jet, ...", "NAME", advanced=True
    )
    opacity: float = option(0.6, "of the hottest pixels, 0 to 1", "SHARE", advanced=True)
    every: int = option(1, "of a video, take every Nth frame", "N", advanced=True)
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)
    engine: str = option("local", "local, or ray: many processes or machines", "NAME", advanced=True)
    ray_address: str | None = option(None, "of a Ray cluster (default: one on this machine)", "ADDRESS", advanced=True)
    workers: int = option(2, "threads that decode images; with --engine ray, detectors at work", "COUNT", advanced=True)
    seed: int = option(0, "of everything random, 0 to 4294967295", "NUMBER", advanced=True)
    overwrite: bool = option(False, "start anew where another run is; else a run that was interrupted goes on")
    json: bool = option(False, "print one JSON object per detection on stdout, and nothing else there")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method_name(self.method)
        check_target_name(self.target)
        check_layers(split_list(self.layers) or [])
        check_smoothing(split_list(self.smoothing))
        check_fusion(self.fusion)
        check_thresholds(self.conf, self.iou, self.max_det)
        check_counts(batch=self.batch, every=self.every, workers=self.workers, max_pixels=self.max_pixels)
        if self.budget is not None:
            check_counts(budget=self.budget)
        detection = numbers(self.detection, "detection", int)
        check_detection(detection)
        check_question(numbers(self.box, "box", float), self.class_name, detection)
        if self.classes is not None:
            several(split_list(self.classes) or [], "classes")
        check_pictures(split_list(self.save) or [], self.opacity)
        check_engine(self.engine)
        if self.engine == "ray":
            for name in (self.out, *self.source):
                if name.startswith("memory://"):
                    raise UsageError(f"{name} is the memory of one process, which Ray's workers do not share")

    def _check_device(self) -> None:
        if self.engine == "local" or self.device is not None:  # else the workers take the cluster's GPUs
            super()._check_device()


@dataclass(frozen=True)
class LayersConfig(ModelConfig):
    """List the layers that can be explained: name, type, stride and shape."""

    examples: ClassVar[tuple[str, ...]] = ("detcam layers --weights yolo26n.pt",)
    json: bool = option(False, "print one JSON object per layer")


@dataclass(frozen=True)
class MethodsConfig:
    """List the methods: which ones to start with, and what their maps can and cannot say."""

    examples: ClassVar[tuple[str, ...]] = ("detcam methods", "detcam methods --all")
    all: bool = option(False, "describe every method, not only those to start with")
    json: bool = option(False, "print one JSON object per method, with papers and costs: all of them")


@dataclass(frozen=True)
class EvaluateConfig(ModelConfig):
    """Measure methods on your own weights and photographs, against baselines a lazy method cannot beat."""

    examples: ClassVar[tuple[str, ...]] = (
        "detcam evaluate --weights best.pt --data data.yaml --methods box,layercam,effect --limit 50",
        "detcam evaluate --planted --methods box,layercam,effect --limit 60",
    )
    data: str = option("", "COCO .json, data.yaml, or a folder or glob of images", "PATH")
    split: str = option("val", "which images of a data.yaml", "NAME")
    methods: str | list[str] | None = option(
        None,
        "what to compare, NAME[@LAYERS][:BUDGET]: layercam@neck,guided:256 (default: baselines, what others draw, "
        "and what works best here)",
        "NAMES",
    )
    out: str = option("runs/evaluate", "the run folder; a run that was interrupted goes on", "DIR")
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)
    limit: int = option(100, "detections to measure", "COUNT")
    per_image: int = option(2, "most detections of one image", "COUNT", advanced=True)
    conf: float = option(0.25, "least confidence of a detection, 0 to 1", "SHARE")
    planted: bool = option(
        False, "measure on drawn scenes whose cause is known instead, with the bundled detectors; needs no --data"
    )
    unseen: bool = option(
        False,
        "also judge under fills that no method uses, in steps of the image's area, and make every map again with all "
        "weights shuffled: 54 more forward passes for each map, and the method's own price once more",
        advanced=True,
    )
    kind: str = option(
        "all", "of planted causes: near, far, part, texture, either, both; all shares --limit evenly", "NAME",
        advanced=True,
    )  # fmt: skip
    sanity: bool = option(
        False, "also randomise weights, swap classes and instances, and add noise, on four images", advanced=True
    )
    seed: int = option(0, "of everything random, 0 to 4294967295", "NUMBER", advanced=True)
    overwrite: bool = option(False, "replace an evaluation of another configuration")
    json: bool = option(False, "print one JSON object per method on stdout, and nothing else there")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_contestants(split_list(self.methods) or [])
        check_shares(conf=self.conf)
        check_counts(limit=self.limit, per_image=self.per_image, max_pixels=self.max_pixels)


@dataclass(frozen=True)
class PlantConfig(ModelConfig):
    """Plant a known cause in a copy of your weights, and see which method and layers find it."""

    examples: ClassVar[tuple[str, ...]] = ("detcam plant --weights best.pt --data data.yaml --out runs/plant",)
    data: str = option("", "COCO .json, or data.yaml: what the copy is trained on for a moment", "FILE")
    split: str = option("train", "which images of a data.yaml", "NAME")
    methods: str | list[str] = option(
        "random,box,edges,gradcam,layercam,hirescam,odam,guided,effect", "what to compare, NAME[:BUDGET]", "NAMES"
    )
    layers: str | list[str] = option("backbone,neck", "layers to compare, for methods that work at some", "NAMES")
    class_name: str | None = option(
        None, "what a mark makes of an object (default: the class with the most objects)", "NAME", flag="class"
    )
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)
    epochs: int = option(12, "of the training", "COUNT", advanced=True)
    limit: int = option(40, "detections to measure", "COUNT")
    out: str = option("runs/plant", "a new folder", "DIR")
    seed: int = option(0, "of everything random, 0 to 4294967295", "NUMBER", advanced=True)
    json: bool = option(False, "print one JSON object per method on stdout, and nothing else there")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_contestants(split_list(self.methods) or [])
        check_layers(split_list(self.layers) or [])
        check_counts(epochs=self.epochs, limit=self.limit, max_pixels=self.max_pixels)


@dataclass(frozen=True)
class ReviewConfig(ModelConfig):
    """Type every error of a labelled set, explain it, and find and test what errors have in common."""

    examples: ClassVar[tuple[str, ...]] = (
        "detcam review --weights best.pt --data data.yaml --out runs/review --serve",
        "detcam review --weights best.pt --data data.yaml --out runs/review --against better.pt",
    )
    data: str = option("", "COCO .json, or data.yaml", "FILE")
    split: str = option("val", "which images of a data.yaml", "NAME")
    images_dir: str | None = option(None, "where the images of a COCO .json are (default: looked for beside it)", "DIR")
    map: str | list[str] | None = option(
        None, "classes the set calls differently, SET:MODEL: car:vehicle,van:vehicle", "PAIRS"
    )
    out: str = option("runs/review", "the run folder; a review that was interrupted goes on", "DIR")
    method: str = option("auto", "how maps are made; `detcam methods` lists them", "NAME", advanced=True)
    conf: float = option(0.25, "least confidence of a detection, 0 to 1", "SHARE")
    iou: float = option(0.7, "overlap, 0 to 1, above which the weaker box is dropped", "SHARE")
    max_det: int = option(300, "most detections per image", "COUNT")
    classes: str | list[str | int] | None = option(
        None, "judge only these classes, by name or index: person,car (default: those that the set labels)", "NAMES"
    )
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)
    against: str | None = option(None, "other weights: which errors they mend, and which they make", "FILE")
    serve: bool = option(False, "show the report in a browser and keep verdicts on disk")
    port: int = option(0, "of --serve (default: any that is free)", "NUMBER", advanced=True)
    seed: int = option(0, "of everything random, 0 to 4294967295", "NUMBER", advanced=True)
    overwrite: bool = option(False, "start anew where another review is")
    json: bool = option(False, "print the summary as one JSON object on stdout, and nothing else there")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method_name(self.method)
        check_thresholds(self.conf, self.iou, self.max_det)
        check_counts(max_pixels=self.max_pixels)
        check_port(self.port)
        renames(self.map)


@dataclass(frozen=True)
class ReportConfig:
    """Build the report of a review again, and show it where asked."""

    examples: ClassVar[tuple[str, ...]] = ("detcam report runs/review --serve",)
    run: str = option("", "the run folder of a review", "RUN_DIR")
    max_pixels: int = option(MAX_PIXELS, "larger images are not shown", "COUNT", advanced=True)
    serve: bool = option(False, "show it in a browser and keep verdicts on disk")
    port: int = option(0, "of --serve (default: any that is free)", "NUMBER", advanced=True)

    def __post_init__(self) -> None:
        check_port(self.port)
        check_counts(max_pixels=self.max_pixels)


@dataclass(frozen=True)
class ExportConfig:
    """Take a run to where it is needed next."""

    examples: ClassVar[tuple[str, ...]] = (
        "detcam export runs/review --to coco",
        "detcam export runs/review --to relabel --out relabelled",
    )
    run: str = option("", "the run folder of a review or of explanations", "RUN_DIR")
    to: str = option("", "coco, csv, fiftyone, supervision, relabel, or counterfactuals", "FORMAT")
    out: str = option("", "an empty folder (default: the run folder's name with the format behind it)", "DIR")
    name: str | None = option(None, "of FiftyOne's data set (default: the run folder's)", "NAME", advanced=True)
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)

    def __post_init__(self) -> None:
        check_counts(max_pixels=self.max_pixels)


@dataclass(frozen=True)
class BenchConfig(ModelConfig):
    """Measure speed against a plain forward pass, and memory over many masks."""

    examples: ClassVar[tuple[str, ...]] = ("detcam bench bus.jpg --weights yolo26n.pt",)
    source: list[str] = option([], "one image, best with several detections", "IMAGE")
    conf: float = option(0.25, "least confidence of a detection, 0 to 1", "SHARE")
    max_pixels: int = option(MAX_PIXELS, "larger images are refused", "COUNT", advanced=True)
    soak: bool = option(False, "explain 2,000 images instead, and see whether memory grows", advanced=True)
    json: bool = option(False, "print one JSON object per figure")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(conf=self.conf)
        check_counts(max_pixels=self.max_pixels)


@dataclass(frozen=True)
class DemoConfig:
    """Explain drawn scenes with the bundled detector; needs no network."""

    examples: ClassVar[tuple[str, ...]] = ("detcam demo", "detcam demo --out somewhere")
    out: str = option("detcam-demo", "where to write", "DIR")


COMMANDS: dict[str, Any] = {
    "explain": ExplainConfig,
    "evaluate": EvaluateConfig,
    "plant": PlantConfig,
    "review": ReviewConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "layers": LayersConfig,
    "methods": MethodsConfig,
    "bench": BenchConfig,
    "demo": DemoConfig,
}
"""The commands, each with its configuration."""


def keys_of(config: Any) -> dict[str, str]:
    """A configuration's keys in a file, by the names of its fields; an option is its key behind two dashes."""
    return {item.name: item.metadata["flag"] or item.name for item in fields(config)}
