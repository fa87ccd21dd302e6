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
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TextIO, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

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
from detcam.errors import DetcamError, InputError, UsageError, WeightsError, nearest
from detcam.options import check_seed
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
    """Run one command.

    Args:
        arguments: the command and its options; None takes the process's own.

    Returns:
        The exit code, see the module; 130 after Ctrl-C. ``DetcamError`` is printed, not raised.

    Raises:
        SystemExit: with 2, where an option cannot be parsed; with 0 after ``--help``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:
        given = _from_file(given[1:])
    try:
        parsed = build_parser().parse_args(given)
    except (UsageError, UnicodeDecodeError, yaml.YAMLError) as error:  # of a file given with --config
        file = next((name for flag, name in pairwise(given) if flag == "--config"), "--config")
        _say(f"detcam {given[0]}: {file}: {_line(str(error))}")
        return 2
    command, stdout, config = parsed.subcommand, sys.stdout, None
    # Ultralytics logs to stdout, and binds the stream it finds at its first import: stdout is for results alone.
    with contextlib.redirect_stdout(sys.stderr), shown_log():
        try:
            if parsed[command].command != command:
                raise UsageError(f"the file says `command: {parsed[command].command}`; detcam run takes what it says")
            config = to_config(CONFIGS[command], parsed[command])
            return _commands()[command](config, stdout)
        except DetcamError as error:
            _say(f"detcam {command}: {error}")
            return 3 if isinstance(error, WeightsError) else 1 if isinstance(error, InputError) else 2
        except BrokenPipeError:  # the reader of our results has closed the pipe
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
    if not arguments or arguments[0].startswith("-"):
        _say("detcam run: usage: detcam run CONFIG.yaml [--key value ...]")
        sys.exit(2)
    try:
        document = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _say(f"detcam run: {arguments[0]}: cannot be read: {getattr(error, 'strerror', None) or _line(str(error))}")
        sys.exit(2)
    command = document.get("command") if isinstance(document, dict) else None
    if not isinstance(command, str) or command not in CONFIGS:
        _say(f"detcam run: {arguments[0]} must say `command:`, got {command!r}{nearest(str(command), CONFIGS)}")
        sys.exit(2)
    return [command, "--config", *arguments]


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}
_MODE = "detcam"


class _Parser(ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        wrong, prog = _line(message), self.prog.replace(" [options]", "")
        if unknown := re.search(r"unrecognized arguments: (--[\w-]+)", wrong):
            names = [name for name in self._option_string_actions if name.startswith("--") and not name.endswith("+")]
            wrong = f"no option {unknown[1]}{nearest(unknown[1], names)}"
        elif unknown := re.search(r"invalid choice: '([^']*)'", wrong):
            wrong = f"no command {unknown[1]!r}{nearest(unknown[1], CONFIGS)}"
        elif unknown := re.search(r"'(\w+)' does not accept option '([^']*)'", wrong):
            prog, keys = f"detcam {unknown[1]}", _names(CONFIGS[unknown[1]])
            wrong = f"no option {unknown[2]!r}{nearest(keys.get(unknown[2], unknown[2]), keys.values())}"
        elif mistyped := re.match(r'Parser key "(\w+)": .*(?:Got|Given) value: (.*)', wrong):
            config, key = CONFIGS[prog.split()[-1]], mistyped[1]
            hints = {known: get_type_hints(config)[name] for name, known in _names(config).items()}
            wrong = f"{key} must be {_wanted(hints.get(key, str))}, got {mistyped[2]}"
        elif wrong.startswith("Unexpected config:"):
            wrong = "the file given with --config holds no options"
        elif missing := re.search(r"(File does not exist|Path is not a file): '([^']*)'", wrong):
            wrong = f"{missing[2]}: {'no such file' if 'exist' in missing[1] else 'a folder, not a file'}"
        elif given := re.search(r"argument (--[\w-]+): ignored explicit argument (.*)", wrong):
            wrong = f"{given[1]} is a switch and takes no value, got {given[2]}"
        elif given := re.search(r"unrecognized arguments: (.*)", wrong):
            wrong = f"nothing is asked for by {given[1]!r}; switches take no value, lists are written with commas"
        elif 'expected "subcommand"' in wrong:
            wrong = f"name a command: {', '.join(CONFIGS)}"
        _say(f"{prog}: {wrong}")
        sys.exit(2)


def build_parser() -> ArgumentParser:
    """The parser: one subcommand per configuration, one option per field."""
    set_loader(_MODE, _load_yaml)
    parser = _Parser(
        prog="detcam", parser_mode=_MODE, description="Why did the detector put that box there?", version=__version__
    )
    commands = parser.add_subcommands(required=True)
    for command, config in CONFIGS.items():
        summary = config.__doc__ or ""
        sub = _Parser(description=summary, parser_mode=_MODE)
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
    """The typed configuration of parsed options.

    Args:
        config: the command's configuration class.
        parsed: its options.

    Raises:
        UsageError: a switch that is neither true nor false, null where a value is needed, or a seed out of range.
    """
    given, hints, names = vars(parsed), get_type_hints(config), _names(config)
    for name, key in names.items():
        value, hint = given.get(key, False), hints[name]
        if (value is None and NoneType not in get_args(hint)) or (hint is bool and not isinstance(value, bool)):
            raise UsageError(f"{key} must be {_wanted(hint)}, got {'null' if value is None else repr(value)}")
    check_seed(given.get("seed", 0))
    return config(**{name: given[key] for name, key in names.items() if key in given})


def _names(config: Any) -> dict[str, str]:
    """The keys in a file, by the names of a configuration's fields."""
    return {item.name: item.metadata["flag"] or item.name for item in fields(config)}


def _wanted(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_wanted(part) for part in get_args(hint))
    if get_origin(hint) is list:
        parts = get_args(get_args(hint)[0]) or get_args(hint)
        return f"a list of {' and '.join(_MANY[part] for part in parts)}"
    return _WORDS[hint]


def _load_yaml(text: str) -> Any:
    """YAML as jsonargparse reads it, where ``source: photos/`` is a list of one.

    Raises:
        UsageError: sources that are neither text nor a list of texts.
    """
    document = get_loader("yaml")(text)
    if isinstance(document, dict) and "source" in document:
        given = document["source"]
        document["source"] = [given] if isinstance(given, str) else given
        if not isinstance(given, str | list) or not all(isinstance(one, str) for one in document["source"]):
            raise UsageError(f"source must be text or a list of texts, got {given!r}")
    return document


def _line(text: str) -> str:
    return " ".join(text.split())


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _commands() -> dict[str, Callable[[Any, TextIO], int]]:
    """The commands' functions, imported late: a usage error should not wait for torch."""
    from detcam.commands.demo import demo
    from detcam.commands.evaluate import evaluate
    from detcam.commands.explain import explain
    from detcam.commands.look import bench, layers, methods
    from detcam.commands.plant import plant
    from detcam.commands.review import export, report, review

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
