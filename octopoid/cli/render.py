"""Tables: what is shown, and how it looks in a pipe. On a terminal `drawing` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from octopoid.cli import speak
from octopoid.cli.app import late

GAP = 2
"""Blanks between columns."""


class Column(NamedTuple):
    """`style` is rich's. On a terminal that is too narrow a column that `shrinks` is cut, one that `wraps` goes on in
    the next line (only the last can); a `note` stands below its row, dim if it is not `loud`.
    """

    name: str
    style: str = ""
    shrinks: bool = False
    wraps: bool = False
    note: bool = False
    loud: bool = False


class Table(NamedTuple):
    """Rows of text under a title ("" = none). `header`: the names of the columns, on a terminal."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    style: str = "bold"
    header: bool = False


def show(tables: Sequence[Table], lines: Sequence[str] = ()) -> None:
    """Print the tables, then `lines`."""
    if speak.terminal() or speak.color():
        late("cli.drawing").show(tables, lines)
        return
    for text in _piped(tables, lines):
        speak.out(text)


def watch(make: Callable[[], tuple[Sequence[Table], Sequence[str]]]) -> None:
    """Draw what `make` gives again each second, until Ctrl-C. There must be a terminal."""
    late("cli.drawing").watch(make)


def span(seconds: float) -> str:
    """A duration as people read it: `9s`, `3m05s`, `2h07m`, `3d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def short(count: int) -> str:
    """A number as people read it in passing: `950`, `48.2k`, `310k`, `1.2M`."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{name}" if count < 100 * unit else f"{count // unit}{name}"
    return str(count)


def usd(amount: float | None, estimated: bool = False) -> str:
    """Money; nothing where it is unknown, which is never shown as zero. `~`: it comes from a table of prices."""
    return "" if amount is None else f"{'~' if estimated else ''}${amount:.2f}"


def _piped(tables: Sequence[Table], lines: Sequence[str]) -> Iterable[str]:
    """Nothing is cut, one row is one line, two or more spaces between columns."""
    for table in tables:
        if table.title:
            yield f"{table.title} ({len(table.rows)})"
        rows = [tuple(" ".join(speak.clean_text(cell).split("\n")) for cell in row) for row in table.rows]
        widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=True)]
        indent = "  " if table.title else ""
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]
            yield (indent + (" " * GAP).join(cells)).rstrip()
    yield from lines
