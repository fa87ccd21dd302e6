"""``detcam demo``: the bundled detector on scenes whose causes are known, explained and reviewed offline."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from detcam.commands.explain import say_explained
from detcam.commands.model import configuration_of
from detcam.commands.progress import complain, progress_bar, show_steps
from detcam.commands.review import print_review
from detcam.config import DemoConfig, ExplainConfig
from detcam.demo import WEIGHTS, demo_scenes, explanation_over, mark_precision
from detcam.demo.scenes import GEM, KITE, Scene, make_scene, render, write_dataset
from detcam.drawing.render import write_image
from detcam.errors import UsageError
from detcam.explainer import Explainer
from detcam.review.api import run_review
from detcam.runs.explained import explain_sources
from detcam.runs.schema import image_key

REVIEW_SEEDS = range(310_000, 310_020)


def demo(config: DemoConfig, stdout: TextIO) -> int:
    """Draw the scenes, explain them into a run folder, review others, and say what to open.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if something failed.

    Raises:
        UsageError: the folder cannot be written.
        WeightsError: the weights cannot be used.
    """
    out = Path(config.out)
    images = out / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
        for name, scene in demo_scenes().items():
            write_image(images / f"{name}.png", render(scene))
        labelled = write_dataset(out / "labelled", range(0), REVIEW_SEEDS, half_marked)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another --out") from error
    run = out / "run"
    asked = ExplainConfig(weights=str(WEIGHTS), source=[str(images)], out=str(run), overwrite=True)
    with progress_bar() as progress:
        show = show_steps(progress)
        explained = explain_sources(
            Explainer(WEIGHTS), asked.source, asked.out, configuration=configuration_of(asked, asked.device),
            overwrite=True, progress=lambda done, total, failed: show("explaining", done, total), complain=complain,
        )  # fmt: skip
    say_explained(explained, asked.out)
    panels = [run / "overlays" / f"{image_key(str(images / f'{name}.png'))}-panel.png" for name in demo_scenes()]
    stdout.write("\n".join(["", *story(), "", "Open these:", *(f"  {panel}" for panel in panels), ""]))
    stdout.write(
        "\nA review of labelled scenes, in half of which gems have the mark that only kites had in training:\n"
    )
    stdout.flush()
    with progress_bar() as progress:
        result = run_review(
            WEIGHTS, labelled, out / "review", overwrite=True, progress=show_steps(progress), complain=complain
        )  # fmt: skip
    print_review(result, stdout)
    return 1 if result.failed() or explained.failed else 0


def half_marked(seed: int) -> Scene:
    """A scene in which gems have the mark if the seed is even, and never otherwise."""
    return make_scene(seed).with_marks(seed % 2 == 0, GEM)


def story() -> list[str]:
    """What the planted mark does to the demo's kite and gem, and whether their maps show it, in measured figures."""
    explainer = Explainer(WEIGHTS)
    lines = ["This detector was trained on kites that nearly always had a chequered mark above their upper right."]
    for name, scene in demo_scenes().items():
        for thing in scene.things:
            if thing.class_id not in (KITE, GEM):
                continue
            explanation = explanation_over(explainer(render(scene))[0], thing)
            if explanation is None:
                lines.append(f"  {name}: nothing is detected there")
                continue
            text = f"  {name}: detected as {explanation.detection.caption}"
            if thing.marked:
                share = mark_precision(explanation, thing)
                text += f"; of as many hottest pixels outside the box as the mark has, {share:.0%} lie on the mark"
            lines.append(text)
    return lines
