"""``detcam layers``: the layers that can be explained."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.config import LayersConfig


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
