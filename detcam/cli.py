"""The command line: one command for each configuration, and ``detcam run`` for any of them from a file.

Exit codes: 0 done; 1 some inputs failed, each named, the rest done; 2 bad usage or configuration; 3 the weights cannot
be used. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TextIO, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace

from detcam.commands.progress import shown_log
from detcam.config import (
    BenchConfig,
    DemoConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    LayersConfig,
    MethodsConfig,
    PlantConfig,
    ReportConfig,
    ReviewConfig,
)
from detcam.errors import DetcamError, InputError, WeightsError, nearest
from detcam.version import __version__

CONFIGS: dict[str, Any] = {
    "explain": ExplainConfig,
    "evaluate": EvaluateConfig,
    "plant": PlantConfig,
    "review": ReviewConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "layers": LayersConfig,
    "methods": MethodsConfig,
    "bench": BenchConfig,
    "demo": DemoConfig,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (argument errors exit with 2)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:
        given = _from_file(given[1:])
    parsed = build_parser().parse_args(given)
    command = parsed.subcommand
    config = to_config(CONFIGS[command], parsed[command])
    stdout = sys.stdout
    # Ultralytics logs to stdout, and binds the stream it finds at its first import: stdout is for results alone.
    with contextlib.redirect_stdout(sys.stderr), shown_log():
        try:
            return _commands()[command](config, stdout)
        except DetcamError as error:
            _say(f"detcam {command}: {error}")
            return 3 if isinstance(error, WeightsError) else 1 if isinstance(error, InputError) else 2
        except BrokenPipeError:  # whoever read our results has gone; nothing more can be said there
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
            return 1
        except OSError as error:
            where = error.filename or getattr(config, "out", "")
            _say(f"detcam {command}: {error.strerror or error}: {where}; what was finished is kept")
            return 2
        except KeyboardInterrupt:
            _say(f"detcam {command}: interrupted; what was finished is kept")
            return 130


def _from_file(arguments: Sequence[str]) -> list[str]:
    """``CONFIG.yaml [--key value ...]`` as the command that the file names."""
    known = ", ".join(CONFIGS)
    if not arguments or arguments[0].startswith("-"):
        _say("detcam run: usage: detcam run CONFIG.yaml [--key value ...]")
        sys.exit(2)
    try:
        document = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _say(f"detcam run: {arguments[0]}: cannot be read: {' '.join(str(error).split())}")
        sys.exit(2)
    command = document.get("command") if isinstance(document, dict) else None
    if command not in CONFIGS:
        _say(f"detcam run: {arguments[0]} must say `command:`, one of {known}; got {command!r}")
        sys.exit(2)
    return [command, "--config", *arguments]


class _Parser(ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        wrong = " ".join(str(message).split())
        if unknown := re.search(r"unrecognized arguments: (--[\w-]+)", wrong):
            names = [name for name in self._option_string_actions if name.startswith("--") and not name.endswith("+")]
            wrong = f"no option {unknown[1]}{nearest(unknown[1], names)}"
        _say(f"{self.prog.replace(' [options]', '')}: {wrong}")
        sys.exit(2)


def build_parser() -> ArgumentParser:
    """The parser: one subcommand per configuration, one option per field."""
    parser = _Parser(prog="detcam", description="Why did the detector put that box there?", version=__version__)
    commands = parser.add_subcommands(required=True)
    for command, config in CONFIGS.items():
        summary = config.__doc__ or ""
        sub = _Parser(description=summary)
        sub.add_argument("--config", action="config", help="read options from this YAML file")
        sub.add_argument("--command", type=str, default=command, help="in a file: what `detcam run` starts with it")
        hints = get_type_hints(config)
        for item in fields(config):
            name = (item.metadata["flag"] or item.name).replace("_", "-")
            text = item.metadata["help"]
            if item.name == "run":
                sub.add_argument("run", type=str, default=SUPPRESS, nargs="?", help=text)
            elif item.name == "source":
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


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _commands() -> dict[str, Callable[[Any, TextIO], int]]:
    """The commands' functions, imported late: a usage error should not wait for torch."""
    from detcam.commands.evaluate import evaluate
    from detcam.commands.explain import explain
    from detcam.commands.look import bench, layers, methods
    from detcam.commands.plant import plant
    from detcam.commands.review import export, report, review
    from detcam.demo import demo

    return {
        "explain": explain,
        "layers": layers,
        "evaluate": evaluate,
        "plant": plant,
        "review": review,
        "report": report,
        "export": export,
        "methods": methods,
        "bench": bench,
        "demo": demo,
    }


if __name__ == "__main__":
    sys.exit(main())
