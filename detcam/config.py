"""The commands' configurations as typed dataclasses: a command line option or a YAML key for every field.

A field's ``metadata`` holds its help text, and its option where that is not the field's name. A configuration refuses
values that cannot be with a ``UsageError`` when it is made, before torch is imported and any weights are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from detcam.errors import UsageError
from detcam.options import (
    check_counts,
    check_detection,
    check_fusion,
    check_method_name,
    check_question,
    check_shares,
    check_smoothing,
    check_target_name,
    check_thresholds,
)


def option(default: Any, help_text: str, flag: str | None = None) -> Any:
    """A dataclass field with its help text, and its option's name where a Python name cannot be it."""
    return field(default=default, metadata={"help": help_text, "flag": flag})


@dataclass(frozen=True)
class ModelConfig:
    """Which detector, and how it runs; names and defaults are those of Ultralytics."""

    weights: str = option("", "checkpoint (.pt), or an official Ultralytics name such as yolo26n.pt")
    imgsz: int | str | list[int] | None = option(None, "input size, one side or height,width; default: as trained")
    device: str | int | None = option(None, "cpu, cuda:0, ...; default: cpu, but with --engine ray the GPUs there are")
    half: bool = option(False, "compute in float16 (CUDA only)")
    nms: bool | None = option(None, "end-to-end models: false takes the NMS-free branch; default: as predict() does")
    yolov5_repo: str | None = option(None, "a clone of ultralytics/yolov5, for weights in its original format")
    trust_weights: bool = option(
        False, "load weights that ask for classes not known to be safe. Weights are code: this runs whatever is in them"
    )


@dataclass(frozen=True)
class ExplainConfig(ModelConfig):
    """Explain every detection of some images: one map per detection."""

    source: list[str] = field(
        default_factory=list,
        metadata={
            "help": "images, videos, camera:0, folders, glob patterns, lists, data sets, - for a list on stdin",
            "flag": None,
        },
    )
    out: str = option("runs/explain", "the run folder, local or an address of fsspec's such as s3://bucket/run")
    method: str = option(
        "auto",
        "how a map is made; auto: effect, or layercam where layers, fusion or smoothing are asked for",
    )
    layers: str | list[str] = option("auto", "auto, backbone, neck, or module paths such as model.15,model.18")
    target: str = option(
        "class",
        "what is explained: class, against, probability, score, box, left, top, right, bottom, combined, iou, "
        "objectness, mask, keypoint:N, contrast:CLASS",
    )
    smoothing: str | list[str] | None = option(None, "average the maps: aug, eigen, noise, or several")
    fusion: str = option("sum", "how the maps of several layers become one: sum, mean, max")
    budget: int | None = option(None, "forward passes of methods that mask the image; default: the method's own")
    conf: float = option(0.25, "least confidence of a detection")
    iou: float = option(0.7, "overlap above which the weaker of two boxes is suppressed")
    classes: str | list[str | int] | None = option(None, "keep only these classes, by name or index: person,car")
    max_det: int = option(300, "most detections per image")
    batch: int = option(1, "images of one shape that share a forward pass")
    detection: str | int | list[int] | None = option(None, "explain only these, counted from 0 by confidence: 0,2")
    box: str | list[float] | None = option(
        None, "explain this box, x1,y1,x2,y2 in original pixels, though it was not reported; needs --class"
    )
    class_name: str | None = option(None, "the class asked about with --box", flag="class")
    verify: bool = option(
        False, "give every map its causal receipt; a map that fails is made again by stronger methods"
    )
    save: str | list[str] = option("overlay,panel", "pictures to write: overlay, heatmap, panel, video, or none")
    colormap: str = option("inferno", "any colour map of matplotlib's: inferno, viridis, jet, ...")
    opacity: float = option(0.6, "of the hottest pixels, 0 to 1")
    every: int = option(1, "of a video, take every Nth frame")
    engine: str = option("local", "local, or ray: many processes or machines")
    ray_address: str | None = option(None, "of a Ray cluster; default: one on this machine")
    workers: int = option(2, "threads that decode images; with --engine ray, detectors at work")
    seed: int = option(0, "of everything random")
    overwrite: bool = option(False, "start anew where another run is")
    json: bool = option(False, "print one JSON object per detection on stdout, and nothing else there")

    def __post_init__(self) -> None:
        check_method_name(self.method)
        check_target_name(self.target)
        check_smoothing(split_list(self.smoothing))
        check_fusion(self.fusion)
        check_thresholds(self.conf, self.iou, self.max_det)
        check_counts(batch=self.batch, every=self.every, workers=self.workers)
        if self.budget is not None:
            check_counts(budget=self.budget)
        detection = numbers(self.detection, "detection", int)
        check_detection(detection)
        check_question(numbers(self.box, "box", float), self.class_name, detection)
        numbers(self.imgsz, "imgsz", int)


@dataclass(frozen=True)
class LayersConfig(ModelConfig):
    """List the layers that can be explained."""

    json: bool = option(False, "print one JSON object per layer")


@dataclass(frozen=True)
class MethodsConfig:
    """List the methods: where they come from, what they cost, and what their maps can and cannot say."""

    json: bool = option(False, "print one JSON object per method")


@dataclass(frozen=True)
class EvaluateConfig(ModelConfig):
    """Measure methods on your own weights and photographs, against baselines a lazy method cannot beat."""

    data: str = option("", "COCO .json, data.yaml, or a folder or glob of images")
    split: str = option("val", "which images of a data.yaml")
    methods: str | list[str] | None = option(
        None,
        "what to compare, NAME[@LAYERS][:BUDGET], separated by commas: layercam@neck, guided:256; default: baselines, "
        "what others draw, and what works best here",
    )
    out: str = option("runs/evaluate", "the run folder; a run that was interrupted goes on")
    limit: int = option(100, "detections to measure")
    per_image: int = option(2, "most detections of one image")
    conf: float = option(0.25, "least confidence of a detection")
    planted: bool = option(
        False, "measure on drawn scenes whose cause is known instead, with the bundled detectors; needs no --data"
    )
    unseen: bool = option(
        False,
        "also judge under fills that no method uses, in steps of the image's area, and make every map again with all "
        "weights shuffled: 54 more forward passes for each map, and the method's own price once more",
    )
    kind: str = option("all", "of planted causes: near, far, part, texture, either, both; all shares --limit evenly")
    sanity: bool = option(False, "also randomise weights, swap classes and instances, and add noise, on four images")
    seed: int = option(0, "of everything random")
    overwrite: bool = option(False, "replace an evaluation of another configuration")
    json: bool = option(False, "print one JSON object per method on stdout, and nothing else there")

    def __post_init__(self) -> None:
        _check_contestants(self.methods)
        check_shares(conf=self.conf)


@dataclass(frozen=True)
class PlantConfig(ModelConfig):
    """Plant a known cause in a copy of your weights, and see which method and layers find it."""

    data: str = option("", "COCO .json, or data.yaml: what the copy is trained on for a moment")
    split: str = option("train", "which images of a data.yaml")
    methods: str | list[str] = option(
        "random,box,edges,gradcam,layercam,hirescam,odam,guided,effect", "what to compare, NAME[:BUDGET]"
    )
    layers: str | list[str] = option("backbone,neck", "layers to compare, for methods that work at some")
    class_name: str | None = option(
        None, "what a mark makes of an object; default: the class with the most objects", flag="class"
    )
    epochs: int = option(12, "of the training")
    limit: int = option(40, "detections to measure")
    out: str = option("runs/plant", "a new folder")
    seed: int = option(0, "of everything random")
    json: bool = option(False, "print one JSON object per method on stdout, and nothing else there")

    def __post_init__(self) -> None:
        _check_contestants(self.methods)


@dataclass(frozen=True)
class ReviewConfig(ModelConfig):
    """Type every error of a labelled set, explain it, and find and test what errors have in common."""

    data: str = option("", "COCO .json, or data.yaml")
    split: str = option("val", "which images of a data.yaml")
    images_dir: str | None = option(None, "where the images of a COCO .json are")
    map: str | list[str] | None = option(None, "classes the set calls differently, SET:MODEL: car:vehicle,van:vehicle")
    out: str = option("runs/review", "the run folder; a review that was interrupted goes on")
    method: str = option("auto", "how maps are made; `detcam methods` lists them")
    conf: float = option(0.25, "least confidence of a detection")
    iou: float = option(0.7, "overlap above which the weaker of two boxes is suppressed")
    max_det: int = option(300, "most detections per image")
    against: str | None = option(None, "other weights: which errors they mend, and which they make")
    serve: bool = option(False, "show the report in a browser and keep verdicts on disk")
    port: int = option(0, "of --serve; default: any that is free")
    seed: int = option(0, "of everything random")
    overwrite: bool = option(False, "start anew where another review is")
    json: bool = option(False, "print the summary as one JSON object on stdout, and nothing else there")

    def __post_init__(self) -> None:
        check_method_name(self.method)
        check_thresholds(self.conf, self.iou, self.max_det)
        numbers(self.imgsz, "imgsz", int)


@dataclass(frozen=True)
class ReportConfig:
    """Build the report of a review again, and show it where asked."""

    run: str = field(default="", metadata={"help": "the run folder of a review", "flag": None})
    serve: bool = option(False, "show it in a browser and keep verdicts on disk")
    port: int = option(0, "of --serve; default: any that is free")


@dataclass(frozen=True)
class ExportConfig:
    """Take a run to where it is needed next."""

    run: str = field(default="", metadata={"help": "the run folder of a review or of explanations", "flag": None})
    to: str = option("", "coco, csv, fiftyone, supervision, relabel, or counterfactuals")
    out: str = option("", "an empty folder; default: the run folder's name with the format behind it")
    name: str | None = option(None, "of FiftyOne's data set; default: the run folder's")


@dataclass(frozen=True)
class BenchConfig(ModelConfig):
    """Measure speed against a plain forward pass, and memory over many masks."""

    source: list[str] = field(
        default_factory=list, metadata={"help": "one image, best with several detections", "flag": None}
    )
    conf: float = option(0.25, "least confidence of a detection")
    soak: bool = option(False, "explain 2,000 images instead, and see whether memory grows")
    json: bool = option(False, "print one JSON object per figure")


@dataclass(frozen=True)
class DemoConfig:
    """Explain drawn scenes with the bundled detector; needs no network."""

    out: str = option("detcam-demo", "where to write")


def split_list(value: str | int | list[Any] | None) -> list[str] | None:
    """``"a,b"``, ``3`` or ``["a", "b"]`` as a list of strings; ``None`` stays."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def numbers(value: Any, name: str, kind: type) -> list[Any] | None:
    """``"1,2"``, ``3`` or ``[1, 2]`` as numbers; ``None`` stays.

    Raises:
        UsageError: something else; ``name`` is the option's.
    """
    try:
        return None if value is None else [kind(part) for part in split_list(value) or [""]]
    except ValueError as error:
        raise UsageError(f"--{name} takes numbers separated by commas, got {value!r}") from error


def _check_contestants(methods: str | list[str] | None) -> None:
    """Refuse what is to be compared, ``NAME[@LAYERS][:BUDGET]``, where a name is no method's."""
    for text in split_list(methods) or []:
        check_method_name(re.split("[@:]", text)[0])
