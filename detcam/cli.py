"""The command line: ``detcam explain``, ``layers`` and ``demo``.

Exit codes: 0 done; 1 some inputs failed, each named, the rest done; 2 bad usage or configuration; 3 the weights cannot
be used. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TextIO, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from detcam.config import DemoConfig, ExplainConfig, LayersConfig
from detcam.errors import DetcamError, InputError, WeightsError
from detcam.version import __version__

CONFIGS: dict[str, Any] = {"explain": ExplainConfig, "layers": LayersConfig, "demo": DemoConfig}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (argument errors exit with 2)."""
    parsed = build_parser().parse_args(None if arguments is None else list(arguments))
    command = parsed.subcommand
    config = to_config(CONFIGS[command], parsed[command])
    stdout = sys.stdout
    # Ultralytics logs to stdout, and binds the stream it finds at its first import: stdout is for results alone.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return _commands()[command](config, stdout)
        except DetcamError as error:
            print(f"detcam {command}: {error}", file=sys.stderr)  # noqa: T201
            return 3 if isinstance(error, WeightsError) else 1 if isinstance(error, InputError) else 2
        except KeyboardInterrupt:
            print(f"detcam {command}: interrupted; what was finished is kept", file=sys.stderr)  # noqa: T201
            return 130


def build_parser() -> ArgumentParser:
    """The parser: one subcommand per configuration, one option per field."""
    parser = ArgumentParser(prog="detcam", description="Why did the detector put that box there?", version=__version__)
    commands = parser.add_subcommands(required=True)
    for command, config in CONFIGS.items():
        summary = config.__doc__ or ""
        sub = ArgumentParser(description=summary)
        sub.add_argument("--config", action="config", help="read options from this YAML file")
        hints = get_type_hints(config)
        for item in fields(config):
            name = (item.metadata["flag"] or item.name).replace("_", "-")
            text = item.metadata["help"]
            if item.name == "source":
                # Suppressed, because the empty list of an absent positional would replace the configuration file's.
                sub.add_argument("source", nargs="*", type=str, default=SUPPRESS, help=text)
            elif hints[item.name] is bool:
                sub.add_argument(f"--{name}", action="store_true", help=text)
            else:
                default = None if item.default is MISSING else item.default
                sub.add_argument(f"--{name}", type=hints[item.name], default=default, help=text)
        commands.add_subcommand(command, sub, help=summary)
    return parser


def to_config(config: Any, parsed: Namespace) -> Any:
    """The typed configuration of parsed options."""
    given = vars(parsed)
    keys = {item.name: item.metadata["flag"] or item.name for item in fields(config)}
    return config(**{name: given[key] for name, key in keys.items() if key in given})


def _commands() -> dict[str, Callable[[Any, TextIO], int]]:
    """The commands' functions, imported late: a usage error should not wait for torch."""
    from detcam.commands import demo, explain, layers

    return {"explain": explain, "layers": layers, "demo": demo}


if __name__ == "__main__":
    sys.exit(main())
