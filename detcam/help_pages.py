"""What ``--help`` prints, of detcam and of each command: at most a screen, examples first."""

from __future__ import annotations

import textwrap
from dataclasses import MISSING, Field, fields
from typing import Any

from detcam.config import COMMANDS

COLUMNS = 100
"""No line is longer."""
NAME_COLUMNS = 24
"""Where the text of an option begins."""
POSITIONALS = ("source", "run")
"""Fields that are named without an option."""
FROM_A_FILE = {
    "--config FILE": "read options from this YAML file; those that follow override it",
    "--print_config": "print the options as such a file, and do nothing else",
}
RUN_SUMMARY = "Do what a YAML file says: any command with its options."
RUN_EXAMPLES = (
    "detcam run configs/explain-folder.yaml --weights best.pt --conf 0.4",
    "detcam explain --weights best.pt --print_config > job.yaml",
)
EXAMPLES = ("detcam demo", "detcam explain photos/ --weights best.pt --out runs/why")


def overview() -> str:
    """What ``detcam --help`` prints."""
    summaries = {name: config.__doc__ for name, config in COMMANDS.items()} | {"run": RUN_SUMMARY}
    return _page(
        "See why an object detector put each of its boxes where it did.",
        EXAMPLES,
        *(_entry(name, summary) for name, summary in summaries.items()),
        "",
        "`detcam COMMAND --help` shows a command's options and examples, `detcam --version` the version.",
    )


def command_page(command: str, everything: bool = False) -> str:
    """What ``detcam COMMAND --help`` prints.

    Args:
        command: one of :data:`~detcam.config.COMMANDS`, or ``run``.
        everything: options for special cases too, as ``--help-all`` shows them.
    """
    if command == "run":
        more = "`command:` in the file names the command; `--print_config` makes such a file."
        entries = [_entry("CONFIG.yaml", "the file"), _entry("--KEY VALUE", "options that override what it says")]
        return _page(RUN_SUMMARY, RUN_EXAMPLES, *entries, "", more)
    config = COMMANDS[command]
    options = sorted(fields(config), key=lambda item: item.name not in POSITIONALS)
    shown = [item for item in options if everything or not item.metadata["advanced"]]
    hidden = [_flag(item) for item in options if item not in shown]
    entries = [_entry(_usage(item), _text(item)) for item in shown]
    if everything:
        entries += [_entry(name, text) for name, text in FROM_A_FILE.items()]
    else:
        names = ", ".join([*hidden, *(name.split()[0] for name in FROM_A_FILE)])
        entries += ["", _wrapped(f"For special cases (`detcam {command} --help-all` explains them): {names}")]
    return _page(config.__doc__, config.examples, *entries)


def _page(summary: str, examples: tuple[str, ...], *entries: str) -> str:
    return "\n".join([_wrapped(summary), "", *(f"  {line}" for line in examples), "", *entries]) + "\n"


def _entry(name: str, text: str) -> str:
    """A name and its text beside it, or below where the name is long."""
    indent = " " * NAME_COLUMNS
    lines = textwrap.wrap(text, COLUMNS, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(name) > NAME_COLUMNS - 4:
        return "\n".join([f"  {name}", *lines])
    return "\n".join([f"  {name}".ljust(NAME_COLUMNS) + lines[0].lstrip(), *lines[1:]])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, COLUMNS, break_on_hyphens=False)


def _flag(item: Field[Any]) -> str:
    return "--" + (item.metadata["flag"] or item.name).replace("_", "-")


def _usage(item: Field[Any]) -> str:
    takes: str = item.metadata["takes"]
    return takes if item.name in POSITIONALS else f"{_flag(item)} {takes}".rstrip()


def _text(item: Field[Any]) -> str:
    """What an option does, with its default where the text does not name one."""
    text: str = item.metadata["help"]
    told = item.default in (None, "", False, MISSING) or "(default" in text
    return text if told else f"{text} (default {item.default})"
