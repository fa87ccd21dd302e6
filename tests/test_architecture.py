"""The house: imports point one way, and only the adapters know the vendor."""

import ast
from pathlib import Path

import detcam

ROOT = Path(detcam.__file__).parent
FLOORS = [
    {"version", "errors", "pictures", "tensors", "io", "probing", "attribution", "metrics"},
    {"io.files"},
    {"geometry", "io.images", "tensors.fusion", "tensors.fills"},
    {"io.video"},
    {"io.sources"},
    {"data.labels"},
    {"data.coco", "data.yolo"},
    {"data"},
    {"types", "runs.loading"},
    {"adapters.base"},
    {"targets"},
    {"probing.frames"},
    {"methods.subject"},
    {"tensors.hooks", "tensors.intercept", "methods.cam", "methods.pixel", "methods.channels", "methods.regions"},
    {"methods.perturb", "methods.search", "methods.belief", "methods.baselines"},
    {"methods.outlook"},
    {"methods.guided", "methods.effect"},
    {"methods"},
    {"adapters.layers", "adapters.settings", "adapters.folding", "adapters.blackbox", "adapters.sealed"},
    {"adapters.weights", "adapters.heads"},
    {"adapters.answers", "adapters.finetune"},
    {"adapters.ultralytics", "adapters.yolov5_weights"},
    {"adapters.yolov5", "adapters.torchvision", "adapters.classifier"},
    {"adapters"},
    {"probing.probe"},
    {"attribution.unreported", "attribution.augmentation", "attribution.receipt"},
    {"attribution.layer_maps"},
    {"attribution.image_maps", "attribution.evidence", "attribution.sentence"},
    {"attribution.conclusion"},
    {"explainer"},
    {"drawing.reduced"},
    {"drawing", "drawing.fonts", "drawing.heat", "drawing.writing", "drawing.view"},
    {"drawing.labels", "drawing.shapes", "drawing.words"},
    {"drawing.overlays"},
    {"drawing.zooms"},
    {"drawing.captions"},
    {"drawing.key"},
    {"drawing.pages"},
    {"drawing.render"},
    {
        "evaluate.bench",
        "evaluate",
        "metrics.faithfulness",
        "metrics.localization",
        "metrics.correlation",
        "metrics.unseen",
        "metrics.recovery",
    },
    {"evaluate.sanity", "evaluate.summary", "evaluate.judge"},
    {"evaluate.pictures"},
    {"evaluate.run"},
    {"runs.schema", "config"},
    {"runs.folder", "evaluate.results"},
    {"runs.engine"},
    {"runs"},
    {"demo.scenes"},
    {"demo.causes"},
    {"demo"},
    {"demo.measure", "evaluate.planted"},
    {"demo.train", "demo.train_causes", "evaluate.plant"},
    {"report", "report.pictures"},
    {"report.build", "report.evaluation"},
    {"report.serve", "evaluate.command"},
    {"review", "review.matching", "review.evidence", "review.misses"},
    {"review.errors", "review.causes"},
    {"review.explaining", "review.compare"},
    {"review.run"},
    {"review.closing"},
    {"export.run"},
    {"export.tables", "export.coco", "export.fiftyone", "export.supervision", "export.counterfactuals"},
    {"export.relabel"},
    {"export"},
    {"commands", "commands.model", "commands.progress"},
    {"commands.explain", "commands.plant", "commands.look", "commands.review"},
    {"commands.evaluate", "commands.demo"},
    {"cli"},
    {"__main__", "__init__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# Late imports inside functions: conveniences on values.
LATE = {}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("detcam.") in FLOOR else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_point_one_way():
    wrong = []
    files = sorted(ROOT.rglob("*.py"))
    assert {name_of(path) for path in files} == set(FLOOR)
    for path in files:
        name = name_of(path)
        for module in imports_of(path):
            if module.startswith("detcam."):
                other = module.removeprefix("detcam.")
                if FLOOR[other] >= FLOOR[name] and (name, other) not in LATE:
                    wrong.append(f"{name} imports {other}")
    assert not wrong


def test_only_the_adapters_and_the_demos_scripts_import_the_vendor():
    users = {name_of(p) for p in ROOT.rglob("*.py") if any(m.split(".")[0] == "ultralytics" for m in imports_of(p))}
    inside = {"adapters.weights", "adapters.heads", "adapters.answers", "adapters.finetune", "adapters.folding"}
    assert users == {*inside, "demo.train", "demo.train_causes", "demo.measure"}


def test_no_file_outgrows_one_idea():
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")) <= 400
