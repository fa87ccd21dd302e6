"""``detcam report``: a review's page built again, and shown."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TextIO

from rich.console import Console

from detcam.config import ReportConfig
from detcam.io.files import on_this_machine
from detcam.report.build import build_report


def report(config: ReportConfig, stdout: TextIO) -> int:
    """Build the report of a review again.

    Args:
        config: the command's options.
        stdout: where the page's path is printed.

    Returns:
        The exit code: 0.

    Raises:
        UsageError: no run folder was named, or it is not a review's.
    """
    run = on_this_machine(config.run, "the report is built in a run folder")
    page = build_report(run)
    stdout.write(f"{page}\n")
    if config.serve:
        serve_report(run, config.port)
    return 0


def serve_report(run: Path, port: int) -> None:
    """Serve a review's report until Ctrl-C, in a browser too.

    Args:
        run: the review's folder.
        port: 0 takes any that is free.

    Raises:
        UsageError: the packages that serve it are not installed, or the port is taken.
    """
    from detcam.report.serve import serve  # which needs the packages of an extra

    def ready(address: str) -> None:
        Console(stderr=True).print(f"serving {run} at {address}; Ctrl-C ends it", highlight=False, soft_wrap=True)
        webbrowser.open(address)

    serve(run, port, ready=ready)
