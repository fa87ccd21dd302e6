"""``detcam export``: a run in another tool's format."""

from __future__ import annotations

from typing import TextIO

from detcam.config import ExportConfig
from detcam.export import export as write


def export(config: ExportConfig, stdout: TextIO) -> int:
    """Write a run in another tool's format.

    Args:
        config: the command's options.
        stdout: where a summary is printed.

    Returns:
        The exit code: 0.

    Raises:
        UsageError: no run folder or format was named, or the run cannot be exported to it.
    """
    out = config.out or f"{config.run.rstrip('/')}-{config.to}"
    stdout.write(f"{write(config.run, config.to, out, config.name)}\n")
    return 0
