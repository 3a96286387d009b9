"""What the commands share: `speak`, and what is said with typer: ids as arguments, one thing done to several tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from octopoid import lifecycle, store, taskhead
from octopoid.cli.speak import (
    SCHEMA_VERSION,
    choose,
    clean_text,
    color,
    data,
    emit,
    interactive,
    json_text,
    layout,
    next_step,
    now,
    one_line,
    out,
    say,
    terminal,
)
from octopoid.errors import OctopoidError
from octopoid.layout import Layout

__all__ = [
    "SCHEMA_VERSION",
    "Id",
    "Ids",
    "Json",
    "choose",
    "clean_text",
    "color",
    "complete_ids",
    "data",
    "each",
    "emit",
    "examples",
    "interactive",
    "json_text",
    "layout",
    "next_step",
    "now",
    "one_line",
    "out",
    "resolve",
    "say",
    "terminal",
]


def resolve(where: Layout, words: Iterable[str]) -> list[str]:
    """The ids that `words` name, each once: exact ids or unique prefixes. Raises before anything is done."""
    return list(dict.fromkeys(lifecycle.resolve(where, word) for word in words))


def each(ids: list[str], action: Callable[[str], None]) -> None:
    """Run `action` on every id, also after one failed.

    Of one id the error goes to the caller; of several each error is told and the worst exit code is raised at the end
    (typer.Exit).
    """
    if len(ids) == 1:
        action(ids[0])
        return
    worst = 0
    for task in ids:
        try:
            action(task)
        except OctopoidError as error:
            say(error.message if error.message.startswith(task) else f"{task}: {error.message}")
            if error.hint:
                say(f"  {error.hint}")
            worst = max(worst, error.exit_code)
    if worst:
        raise typer.Exit(worst)


def examples(*commands: str) -> str:
    """The end of a command's help: `@cli.command(epilog=examples("octopoid show add-login"))`."""
    return "\n".join(("\b", "Examples:", *(f"  {one}" for one in commands)))


def complete_ids(incomplete: str) -> list[str]:
    """Ids for the shell's completion; none where there is no queue."""
    try:
        found = store.every_id(layout())
        # what a shell puts onto the command line is an id, whatever a file is called
        return sorted(one for one in found if one.startswith(incomplete) and not taskhead.check_id(one))
    except (OctopoidError, OSError):
        return []


Id = Annotated[
    str, typer.Argument(metavar="ID", help="A task: its id, or a unique beginning of it.", autocompletion=complete_ids)
]
Ids = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Tasks: ids, or unique beginnings.", autocompletion=complete_ids)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
