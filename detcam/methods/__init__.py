"""The methods, by name, each with what its maps can and cannot say; without torch, until a map is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from detcam.errors import UsageError, nearest
from detcam.registry import Registry, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from detcam.methods.subject import Subject


LAYER_INPUTS = ("activations", "gradients", "box", "anchor", "stride", "seed")
"""What a function that works at layers may ask for by name; and, with a default, ``reduce``, for eigen smoothing."""


@dataclass(frozen=True)
class Method:
    """A map-making function, what it takes, and what its maps can say.

    Attributes:
        function: for ``layer``, any of these by name -> a map (h, w): ``activations`` and the target's ``gradients``
            there, both float32 (channel, h, w); ``box``, float32 (4,) xyxy, and ``anchor``, float32 (2,) x, y, both in
            cells of the layer; its ``stride`` in pixels of the input; ``seed``. For ``image``, a
            :class:`~detcam.methods.subject.Subject` -> maps (detection, h, w) over the input.
        on: what it works on.
        paper: authors, year and where it is found.
        cost: passes beyond the one that found the detections; K detections.
        asks: what a map depends on: nothing that was asked, the class, or the detection.
        label: one honest line on what the map means, drawn where the map is.
        signed: whether a raw map has a negative part.
        models: which models it works on; a white box shows its layers and gradients.
        explains: one scalar target, or the detection as a whole: overlap times class probability.
        layers: whether a method that works on the image needs layers too.
        budget: forward passes it takes where nothing else is asked; 0 where their number is fixed.
        concludes: whether its maps come with a quick receipt, the evidence patch and a sentence.
        shares: what an image's detections share: ``passes`` of changed images, a ``budget`` of them, or ``nothing``. An
            image of many detections is explained in pieces unless they share passes.
        pixelwise: whether gradients at the pixels are held for every detection, so that they are taken 16 at a time.
        cellwise: whether a map has nothing where the gradient is zero, and elsewhere depends on the activations and
            gradients of that cell alone: it is then made where the gradient reaches, and nowhere else.
        name: what rows and pictures call a method that is not registered; without one, the function's ``__name__``.

    Raises:
        UsageError: ``on`` is neither of the two, or the function cannot be called so.
    """

    function: Callable[..., Tensor]
    on: Literal["layer", "image"] = "image"
    paper: str = ""
    cost: str = ""
    asks: Literal["nothing", "class", "detection"] = "detection"
    label: str = ""
    signed: bool = False
    models: Literal["white box", "pooling classifiers", "any"] = "white box"
    explains: Literal["target", "detection"] = "target"
    layers: bool = False
    budget: int = 0
    shares: Literal["passes", "budget", "nothing"] = "nothing"
    pixelwise: bool = False
    cellwise: bool = False
    concludes: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.on not in ("layer", "image"):
            raise UsageError(f"a method works on 'layer' or on 'image', got on={self.on!r}")
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # not every callable tells what it takes
            return
        name = self.name or name_of(self.function)
        if self.on == "layer":
            needed = [
                key for key, one in signature.parameters.items()
                if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
            ]  # fmt: skip
            if unknown := [key for key in needed if key not in LAYER_INPUTS]:
                raise UsageError(
                    f"method {name!r} asks for {unknown[0]!r}, which no layer has; a function that works at layers "
                    f"takes any of {', '.join(LAYER_INPUTS)}, by these names"
                )
        elif "activations" in signature.parameters or not _takes_one(signature):
            raise UsageError(
                f"method {name!r} is a function of {signature}, and one that works on the image is a function of a "
                "detcam.Subject alone; one that works at layers is given as detcam.Method(function, on='layer')"
            )

    @property
    def takes(self) -> frozenset[str]:
        """The names of the function's arguments."""
        return frozenset(inspect.signature(self.function).parameters)

    def layer_map(self, available: dict[str, Any]) -> Tensor:
        """One layer's map from what of ``available`` the function takes.

        Args:
            available: arguments by name; ``activations`` (channel, h, w) and what else is at hand.

        Returns:
            (h, w).
        """
        return self.function(**{name: available[name] for name in self.takes & available.keys()})


def _takes_one(signature: inspect.Signature) -> bool:
    """Whether a function can be called with one argument."""
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


class _Own(Method):
    """A method of detcam's: its function is named, ``file.name`` in this folder, and imported when it is first used."""

    def __post_init__(self) -> None:
        """Nothing to check, which would need the function."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name == "function" and isinstance(found, str):
            file, _, function = found.partition(".")
            return getattr(import_module(f"detcam.methods.{file}"), function)
        return found


def _own(
    function: str,
    on: Literal["layer", "image"],
    paper: str,
    cost: str,
    asks: Literal["nothing", "class", "detection"],
    label: str,
    **others: Any,
) -> Method:
    """A method of detcam's, of its function's name and what :class:`Method` says of it."""
    own: Any = _Own
    return cast(Method, own(function, on, paper, cost, asks, label, **others))


_COST = "K backward"
_POOLED = "pooled over the layer: repaints similar objects"
_CELLS = "gradient x activation, cell by cell"


def as_method(given: Method | Callable[[Subject], Tensor]) -> Method:
    """A method, or a function of a :class:`~detcam.methods.subject.Subject` as a method that works on the image.

    Of a function alone the label is the first line of its docstring, and any model is let through.

    Raises:
        UsageError: neither of the two, or a function of something else.

    Args:
        given: what :func:`register_method` takes.
    """
    if isinstance(given, Method):
        return given
    if not callable(given):
        raise UsageError(f"a method is a name, a detcam.Method or a function of a detcam.Subject, got {given!r}")
    summary = (inspect.getdoc(given) or "").partition("\n")[0]
    unlabelled = "a method without a docstring: it does not say what its maps mean"
    return Method(given, label=summary or unlabelled, models="any", shares="passes")


_BUILTIN: dict[str, Method] = {
    "cam": _own("cam.cam", "layer", "Zhou et al. 2016, arXiv:1512.04150", _COST, "class",
        "the classifier's own weights: exact for one pooled linear layer", signed=True, models="pooling classifiers"),
    "gradcam": _own("cam.gradcam", "layer", "Selvaraju et al. 2017, arXiv:1610.02391", _COST, "class", _POOLED),
    "gradcam++": _own(
        "cam.gradcam_plus_plus", "layer", "Chattopadhay et al. 2018, arXiv:1710.11063", _COST, "class", _POOLED),
    "xgradcam": _own("cam.xgradcam", "layer", "Fu et al. 2020, arXiv:2008.02312", _COST, "class", _POOLED),
    "hirescam": _own("cam.hirescam", "layer", "Draelos & Carin 2020, arXiv:2011.08891", _COST, "detection", _CELLS,
        cellwise=True),
    "layercam": _own("cam.layercam", "layer", "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943", _COST, "detection",
        "positive gradient x activation, cell by cell", cellwise=True),
    "odam": _own("cam.odam", "layer", "Zhao & Chan 2023, arXiv:2304.06354", _COST, "detection",
        "gradient x activation, gradients smoothed by an eighth of the box"),
    "ssgradcam": _own("cam.ssgradcam", "layer", "Yamauchi & Ishikawa 2022, doi:10.1109/ICIP46576.2022.9897350", _COST,
        "detection", "Grad-CAM kept where each channel's gradient is"),
    "ssgradcam++": _own("cam.ssgradcam_plus_plus", "layer", "Yamauchi 2024, CVPR Workshops 8164-8168", _COST,
        "detection", "Grad-CAM++ weights of the box's own cell, kept where the gradient is"),
    "gcame": _own("cam.gcame", "layer", "Nguyen et al. 2023, arXiv:2306.03400", _COST, "detection",
        "a Gaussian at the anchor by construction"),
    "gradnorm": _own("cam.gradnorm", "layer", "the size of gradient x activation", _COST, "detection",
        "size of gradient x activation, for or against", cellwise=True),
    "eigencam": _own("cam.eigencam", "layer", "Muhammad & Yeasin 2020, arXiv:2008.00299", "none", "nothing",
        "not detection-specific: the same map whatever you ask", signed=True),
    "eigengradcam": _own("cam.eigengradcam", "layer", "Muhammad & Yeasin 2020, on gradient x activation", _COST,
        "detection", "the strongest pattern of gradient x activation, not all of it"),
    "fullgrad": _own("pixel.fullgrad", "image", "Srinivas & Fleuret 2019, arXiv:1905.00780", "1 forward, K backward",
        "detection", "input and bias gradients, layer by layer on one scale: sizes, not signs", pixelwise=True),
    "saliency": _own("pixel.saliency", "image", "Simonyan et al. 2014, arXiv:1312.6034", "1 forward, K backward",
        "detection", "what a small change of a pixel would do, not what the pixel did", pixelwise=True),
    "guidedbackprop": _own("pixel.guided_backprop", "image", "Springenberg et al. 2015, arXiv:1412.6806",
        "1 forward, K backward", "detection", "sharp edges, whatever is asked: nearly class-blind", pixelwise=True),
    "guidedgradcam": _own("pixel.guided_gradcam", "image", "Selvaraju et al. 2017, arXiv:1610.02391",
        "2 forward, 2K backward", "class", "Grad-CAM painted with edges: no finer in what it knows", layers=True,
        pixelwise=True),
    "smoothgrad": _own("pixel.smoothgrad", "image", "Smilkov et al. 2017, arXiv:1706.03825",
        "50 forward, 50K backward", "detection", "pixel gradients averaged over noise", pixelwise=True),
    "integratedgradients": _own("pixel.integrated_gradients", "image", "Sundararajan et al. 2017, arXiv:1703.01365",
        "50 forward, 50K backward", "detection", "adds up to the change from a blank image; dark pixels count little",
        signed=True, pixelwise=True),
    "scorecam": _own("channels.scorecam", "image", "Wang et al. 2020, arXiv:1910.01279", "1 forward per channel",
        "class", "channels by the score seen through them alone: repaints similar objects", layers=True,
        shares="passes"),
    "ablationcam": _own("channels.ablationcam", "image", "Ramaswamy & Desai 2020, doi:10.1109/WACV45572.2020.9093360",
        "1 forward per channel", "class", "channels by what is lost without them: repaints similar objects",
        layers=True, shares="passes"),
    "reciprocam": _own("channels.reciprocam", "image", "Byun & Lee 2022, arXiv:2209.14074", "1 forward per cell",
        "detection", "what one cell of the coarsest layer says alone", layers=True, shares="passes"),
    "occlusion": _own("perturb.occlusion", "image", "Zeiler & Fergus 2014, arXiv:1311.2901", "256 forward, shared",
        "detection", "the score lost under a sliding blurred patch", signed=True, models="any", explains="detection",
        budget=256, shares="passes"),
    "windows": _own("windows.windows", "image", "detcam's own, for errors of class in a review",
        "82 forward per detection", "detection", "what blurred windows over the box and around it cost the score, or "
        "its lead over the class of contrast:CLASS; smoothed", models="any"),
    "drise": _own("perturb.drise", "image", "Petsiuk et al. 2021, arXiv:2006.03204", "up to 1000 forward, shared",
        "detection", "the score's correlation with random grids", signed=True, models="any", explains="detection",
        budget=1000, shares="passes"),
    "dcrisp": _own("perturb.dcrisp", "image", "D-CRISP: random grids and superpixels", "up to 1000 forward, shared",
        "detection", "the score's correlation with random grids and superpixels", signed=True, models="any",
        explains="detection", budget=1000, shares="passes"),
    "vps": _own("search.vps", "image", "Chen et al. 2024, arXiv:2411.16198", "700 to 2200 forward per detection",
        "detection", "the order in which regions bring the score back: slow and faithful", models="any",
        explains="detection"),
    "phasewin": _own("search.phasewin", "image", "PhaseWin: VPS pruned in phases", "about 400 forward per detection",
        "detection", "the order in which regions bring the score back, most of them tried once a phase", models="any",
        explains="detection"),
    "guided": _own("guided.guided", "image", "detcam's own, docs/research/guided.md", "64 forward per detection",
        "detection", "the order in which regions make or unmake the box: gradients propose, forward passes decide",
        models="any", explains="detection", budget=64),
    "effect": _own("effect.effect", "image", "detcam's own, docs/research/effect.md",
        "about 30 forward of a crop per detection, one backward; some 70 of the image where its surroundings count",
        "detection", "what the score loses without each region, from windows that were hidden, finer by LayerCAM, and "
        "places anywhere in the image: zero where nothing was found", models="any", budget=200,
        shares="budget", concludes=True),
    "box": _own("baselines.box", "image", "a baseline", "none", "detection",
        "a baseline: a Gaussian in the box, knows nothing else", models="any"),
    "edges": _own("baselines.edges", "image", "a baseline", "none", "nothing", "a baseline: the image's own edges",
        models="any"),
    "random": _own("cam.random", "layer", "a baseline", "none", "nothing", "a baseline: noise, explains nothing",
        models="any"),
}  # fmt: skip

METHODS: Registry[Method] = Registry("method", "detcam.methods", as_method, _BUILTIN, reserved=["auto"])
"""Every method by its name: detcam's, the registered ones, and those of entry points ``detcam.methods``."""


DEFAULT_METHOD, LAYER_METHOD = "effect", "layercam"
"""What ``auto`` stands for: the one method that beat a Gaussian in the box on every set of ``docs/benchmark.md``; and
the best of those that work at layers, for what the first cannot answer."""


RECOMMENDED = (DEFAULT_METHOD, LAYER_METHOD, "guided", "hirescam")
"""The methods to start with: those that beat a Gaussian in the box in at least one table of ``docs/benchmark.md`` that
no method searches for (planted causes, unseen fills), by intervals that do not meet; first what ``auto`` stands for.
The others lose to it everywhere or are not measured there."""


def ordered_names() -> list[str]:
    """Every method's name, :data:`RECOMMENDED` first."""
    return [*RECOMMENDED, *(name for name in METHODS if name not in RECOMMENDED)]


def choose_method(target: str, at_layers: bool) -> str:
    """The method that ``auto`` stands for.

    Args:
        target: what is explained; ``combined``, five numbers in one map, takes a method at layers.
        at_layers: layers, their fusion or smoothing were asked for.
    """
    return LAYER_METHOD if at_layers or target == "combined" else DEFAULT_METHOD


def find_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        UsageError: no such method.

    Args:
        name: of detcam's own, a registered one, or an entry point's.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r}{nearest(name, ['auto', *METHODS])}")
    return METHODS[name]


def register_method(name: str, method: Method | Callable[[Subject], Tensor]) -> None:
    """Make a method known by a name, for this process; a package's entry point ``detcam.methods`` does so for all.

    Args:
        name: letters, digits and any of ``_ . + -``.
        method: a :class:`Method`; or a function of a :class:`~detcam.methods.subject.Subject`, which holds one image
            (3, h, w) and K scalars to explain, that gives maps (K, h', w') over the detector's input, of any size.
            A function that works at layers is given as a :class:`Method` with ``on="layer"``.

    Raises:
        UsageError: the name is taken or cannot be one, or ``method`` is none.
    """
    METHODS.add(name, method)


def resolve_method(method: str | Method | Callable[[Subject], Tensor]) -> tuple[str, Method]:
    """A method and what it is called.

    Args:
        method: a name; or what :func:`register_method` takes, called by its own name, or by the one that it is
            registered under.

    Raises:
        UsageError: no such method, or another has its name.
    """
    if isinstance(method, str):
        return method, find_method(method)
    for name, known in METHODS.items():
        if method is known or method is known.function:
            return name, known
    own = as_method(method)
    name = own.name or name_of(own.function)
    METHODS.check_free(name)
    return name, own


def table_row(name: str) -> dict[str, str]:
    """One line of the table of methods.

    Args:
        name: of a method.

    Returns:
        Text by column.
    """
    method = METHODS[name]
    yes = {True: "yes", False: "no"}
    return {
        "method": name,
        "detection-specific": yes[method.asks == "detection"],
        "class-specific": yes[method.asks != "nothing"],
        "signed": yes[method.signed],
        "models": method.models,
        "cost": method.cost,
        "paper": method.paper,
        "what a map says": method.label,
    }
