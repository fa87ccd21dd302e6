"""``detcam bench``: how fast explaining is, and whether its memory grows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.config import BenchConfig
from detcam.errors import UsageError
from detcam.evaluate import bench as measure
from detcam.evaluate import soak
from detcam.io.images import read_image
from detcam.io.sources import find_images


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
