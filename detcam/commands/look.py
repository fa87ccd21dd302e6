"""``detcam layers``, ``methods`` and ``bench``: what there is to choose from, and how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.config import BenchConfig, LayersConfig, MethodsConfig
from detcam.errors import UsageError
from detcam.evaluate import bench as measure
from detcam.evaluate import soak
from detcam.io.images import read_image
from detcam.io.sources import find_images
from detcam.methods import RECOMMENDED, ordered_names, table_row


def layers(config: LayersConfig, stdout: TextIO) -> int:
    """Print the layers that can be explained.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0.

    Raises:
        UsageError: no weights were named.
        WeightsError: the weights cannot be used.
    """
    listed = load_model(config).layers()
    if config.json:
        for layer in listed:
            stdout.write(json.dumps(asdict(layer)) + "\n")
        return 0
    table = Table("name", "type", "stride", "channels x height x width", "groups")
    for layer in listed:
        stride = "x".join(f"{side:g}" for side in dict.fromkeys(layer.stride))
        table.add_row(layer.name, layer.type, stride, " x ".join(map(str, layer.shape)), ", ".join(layer.groups))
    console = Console(file=stdout)
    if not listed:
        console.print("this model can only be called: it has no layers to explain", highlight=False)
        return 0
    console.print(table)
    group = "auto" if any("auto" in layer.groups for layer in listed) else "backbone"
    console.print(f"auto takes the {group} group; any other module path can be named too", highlight=False)
    return 0


def methods(config: MethodsConfig, stdout: TextIO) -> int:
    """Print the methods to start with, and the others' names or, where asked, every method.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0.
    """
    names = ordered_names()
    rows = [table_row(name) for name in names]
    if config.json:
        for row in rows:
            stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return 0
    shown = rows if config.all else rows[: len(RECOMMENDED)]
    titles = [title for title in rows[0] if title not in ("paper", "cost")]
    table = Table(*(title.replace("-", "-\n") for title in titles), show_lines=True)
    table.columns[0].min_width = max(len(row["method"]) for row in shown)  # a name is no use where it is cut
    for row in shown:
        table.add_row(*(row[title] for title in titles))
    console = Console(file=stdout)
    console.print(table)
    if not config.all:
        console.print(
            "these are ahead of a Gaussian in the box where it was measured (docs/benchmark.md)", highlight=False
        )
        others = ", ".join(names[len(RECOMMENDED) :])
        console.print(f"others, described by `detcam methods --all`: {others}", highlight=False)
    console.print("papers and costs: `detcam methods --json`, or docs/methods.md", highlight=False)
    return 0


def bench(config: BenchConfig, stdout: TextIO) -> int:
    """Measure speed and memory, and print the figures.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0.

    Raises:
        UsageError: not exactly one image, or no weights were named.
        WeightsError: the weights cannot be used.
    """
    images, missing = find_images(config.source)
    if missing or len(images) != 1:
        reason = f"{missing[0].source}: {missing[0].reason}" if missing else f"{len(images)} images were named"
        raise UsageError(f"one image is measured; {reason}")
    work = soak if config.soak else measure
    measurements = work(load_model(config), read_image(images[0]), config.conf)
    if config.json:
        for one in measurements:
            stdout.write(json.dumps(asdict(one)) + "\n")
        return 0
    table = Table("figure", "value", "unit", "note")
    for one in measurements:
        table.add_row(one.name, f"{one.value:.2f}", one.unit, one.note)
    Console(file=stdout).print(table)
    return 0
