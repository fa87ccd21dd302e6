"""The command line: one command for each configuration, and ``detcam run`` for any of them from a file.

Exit codes: 0 done; 1 some inputs failed, each named, the rest done; 2 bad usage or configuration; 3 the weights cannot
be used; 70 a bug in detcam, with the file in which the traceback was kept; 130 after Ctrl-C, 143 after SIGTERM. Results
go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields
from functools import partial
from importlib import import_module
from typing import Any, NoReturn, TextIO, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]

from detcam.alone import alone
from detcam.commands.checks import check_inputs
from detcam.commands.guard import say, tell_of
from detcam.commands.progress import shown_log
from detcam.config import COMMANDS, keys_of
from detcam.errors import DetcamError, InputError, UsageError, WeightsError, nearest
from detcam.help_pages import command_page, overview
from detcam.io.documents import read_yaml
from detcam.io.limits import at_most_pixels
from detcam.options import MAX_PIXELS, check_seed
from detcam.values import check_value, read_options, read_value
from detcam.version import __version__

HELP = ("-h", "--help", "--help-all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command and its options; None takes the process's own.

    Returns:
        The exit code, see the module. No error is raised: each is one line.

    Raises:
        SystemExit: with 2, where an option cannot be parsed; with 0 after ``--version``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    program = " ".join(["detcam", *(word for word in given[:1] if word in (*COMMANDS, "run"))])
    with _open_streams():
        try:
            code = _run(given)
            sys.stdout.flush()  # a full disk shows here, and not as Python ends
            return code
        except KeyboardInterrupt:
            say(f"{program}: interrupted; what was finished is kept")
            return 130
        except OSError as error:
            say(f"{program}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
            return 2
        except Exception as error:
            return tell_of(error, program)


@contextlib.contextmanager
def _open_streams() -> Iterator[None]:
    """Where the process was started without an output, what is written there goes nowhere."""
    with contextlib.ExitStack() as stack:
        for stream, redirect in ((sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr)):
            if stream is None:
                stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w"))))  # noqa: PTH123
        yield


def _run(given: list[str]) -> int:
    """Run one command: ``main`` without its last guard."""
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    words = [word for word in given if word not in HELP]
    command = words[0] if words else None
    if command is not None and not command.startswith("-") and command not in (*COMMANDS, "run"):
        _refuse("detcam", f"no command {command!r}{nearest(command, [*COMMANDS, 'run', 'help'])}")
    if len(words) < len(given):
        sys.stdout.write(_help_page(words, "--help-all" in given))
        return 0
    if command is None:
        _refuse("detcam", f"name a command: {', '.join([*COMMANDS, 'run'])}")
    if command.startswith("-") and command != "--version":
        _refuse("detcam", f"no option {command}{nearest(command, ['--help', '--version'])}")
    if command == "run":
        given = _from_file(given[1:])
        command = given[0]
    try:
        if command in COMMANDS:
            check_options(command, given[1:])
        parsed = build_parser().parse_args(given)
    except UsageError as error:
        _refuse(f"detcam {command}", str(error))
    stdout, config = sys.stdout, None
    # Ultralytics logs to stdout, and binds the stream it finds at its first import: stdout is for results alone.
    with contextlib.redirect_stdout(sys.stderr), shown_log():
        try:
            config = to_config(COMMANDS[command], parsed[command])
            check_inputs(config)
            with at_most_pixels(getattr(config, "max_pixels", MAX_PIXELS)):
                return _action(command)(config, stdout)
        except DetcamError as error:
            say(f"detcam {command}: {error}")
            return 3 if isinstance(error, WeightsError) else 1 if isinstance(error, InputError) else 2
        except BrokenPipeError:  # the reader of our results has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
            return 1
        except OSError as error:
            where = error.filename or getattr(config, "out", "")
            say(
                f"detcam {command}: {error.strerror or error}{f': {where}' if where else ''}; what was finished is kept"
            )
            return 2


def _help_page(words: Sequence[str], everything: bool) -> str:
    """The page of what is asked for: of ``run`` and a file, that of the command which the file names."""
    command = words[0] if words and not words[0].startswith("-") else None
    if command == "run" and len(words) > 1:
        with contextlib.suppress(UsageError):  # a file that cannot be read says nothing
            document = read_yaml(words[1], pipes=True)
            named = document.get("command") if isinstance(document, dict) else None
            command = named if isinstance(named, str) and named in COMMANDS else command
    return overview() if command is None else command_page(command, everything)


def _from_file(arguments: Sequence[str]) -> list[str]:
    """``CONFIG.yaml [--key value ...]`` as the command that the file names."""
    if not arguments or arguments[0].startswith("-"):
        _refuse("detcam run", "usage: detcam run CONFIG.yaml [--key value ...]")
    try:
        document = read_yaml(arguments[0], pipes=True)
    except UsageError as error:
        _refuse("detcam run", str(error))
    command = document.get("command") if isinstance(document, dict) else None
    if not isinstance(command, str) or command not in COMMANDS:
        wanted = f"must say `command:`, got {command!r}{nearest(str(command), COMMANDS)}"
        _refuse("detcam run", f"{arguments[0]} {wanted}")
    return [command, "--config", *arguments]


def check_options(command: str, arguments: Sequence[str]) -> None:
    """Refuse options that a command does not have, and switches with a value: argparse tells of both in words alone.

    Raises:
        UsageError: there is one.
    """
    config = COMMANDS[command]
    hints = {_flag(key): get_type_hints(config)[name] for name, key in keys_of(config).items()}
    known = [name for name in hints if name not in ("--source", "--run")]
    known += ["--config", "--print_config", *HELP[1:]]
    for argument in arguments:
        if argument == "--":
            return
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or " " in name:
            continue
        meant = [name] if name in known else [other for other in known if other.startswith(name)]
        if not meant:
            raise UsageError(f"no option {name}{nearest(name, known)}")
        if len(meant) > 1:
            raise UsageError(f"{name} can be short for {' or '.join(meant)}: write it out")
        if equals and hints.get(meant[0]) is bool:
            raise UsageError(f"{meant[0]} is a switch and takes no value, got {value!r}")


class _ConfigFile(ActionConfigFile):
    """Options of a file, as if they stood where it is named."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for key, value in read_options(values, parser.subcommand).items():
            namespace[key] = value


class _Parser(ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message: str, ex: BaseException | None = None) -> NoReturn:
        """End with the ``UsageError`` of :func:`~detcam.values.read_value` behind ``ex``, where there is one.

        Arguments that are left over come without an ``ex``: argparse lists them in its message alone, behind a colon.
        """
        prog = self.prog.replace(" [options]", "")
        if ex is None:
            left = message.partition(": ")[2]
            _refuse(prog, f"nothing is asked for by {left!r}; switches take no value, lists are written with commas")
        cause: BaseException | None = ex
        while cause is not None and not isinstance(cause, UsageError):
            cause = cause.__cause__ or cause.__context__
        _refuse(prog, str(cause or message))


def build_parser() -> ArgumentParser:
    """The parser: one subcommand per configuration, one option per field."""
    parser = _Parser(prog="detcam", version=__version__, add_help=False, allow_abbrev=True)
    commands = parser.add_subcommands(required=True)
    for command, config in COMMANDS.items():
        sub = _Parser(add_help=False)
        sub.add_argument("--config", action=_ConfigFile)
        sub.add_argument("--command", type=str, default=command)
        hints = get_type_hints(config)
        for item in fields(config):
            key = keys_of(config)[item.name]
            if item.name == "run":
                sub.add_argument("run", type=str, default=SUPPRESS, nargs="?")
            elif item.name == "source":
                # Suppressed, because the empty list of an absent positional would replace the configuration file's.
                sub.add_argument("source", nargs="*", type=str, default=SUPPRESS)
            elif hints[item.name] is bool:
                sub.add_argument(_flag(key), action="store_true")
            else:
                default = None if item.default is MISSING else item.default
                sub.add_argument(_flag(key), type=partial(read_value, key, hints[item.name]), default=default)
        commands.add_subcommand(command, sub)
    return parser


def to_config(config: Any, parsed: Namespace) -> Any:
    """The typed configuration of parsed options.

    Args:
        config: the command's configuration class.
        parsed: its options.

    Raises:
        UsageError: a switch that is neither true nor false, null where a value is needed, or a seed out of range.
    """
    given, hints, keys = vars(parsed), get_type_hints(config), keys_of(config)
    for name, key in keys.items():
        check_value(key, hints[name], given.get(key, False))
    check_seed(given.get("seed", 0))
    return config(**{name: given[key] for name, key in keys.items() if key in given})


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _refuse(prog: str, what: str) -> NoReturn:
    """End with what is wrong in one line."""
    say(f"{prog}: {' '.join(what.split())}")
    sys.exit(2)


def _action(command: str) -> Callable[[Any, TextIO], int]:
    """A command's function: of its name, in the file of its name, which may import torch."""
    with alone():
        function: Callable[[Any, TextIO], int] = getattr(import_module(f"detcam.commands.{command}"), command)
    return function
