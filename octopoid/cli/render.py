"""Tables: aligned columns when piped, fitted to the width and coloured on a terminal (then with rich, loaded here)."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from octopoid.cli import speak

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_GAP = 2
_NARROWEST = 12
"""Characters. A column that may shrink is never narrower than this."""


class Column(NamedTuple):
    """`style` is rich's. On a terminal that is too narrow a column that `shrinks` is cut, one that `wraps` goes on in
    the next line (only the last can); a `note` stands below its row.
    """

    name: str
    style: str = ""
    shrinks: bool = False
    wraps: bool = False
    note: bool = False


class Table(NamedTuple):
    """Rows of text under a title ("" = none). `header`: the names of the columns, on a terminal."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    style: str = "bold"
    header: bool = False


def show(tables: Sequence[Table], lines: Sequence[str] = ()) -> None:
    """Print the tables, then `lines`."""
    if not speak.terminal() and not speak.color():
        for text in _piped(tables, lines):
            speak.out(text)
        return
    console = _console()
    for line in _drawn(tables, lines, console.width):
        console.print(line, soft_wrap=True)


def watch(make: Callable[[], tuple[Sequence[Table], Sequence[str]]], every: float = 1.0) -> None:
    """Draw what `make` gives again each `every` seconds, until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    console = _console()
    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        try:
            while True:
                tables, lines = make()
                live.update(Group(*_drawn(tables, lines, console.width)), refresh=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return


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


def usd(amount: float | None) -> str:
    """Money; nothing where it is unknown, which is never shown as zero."""
    return "" if amount is None else f"${amount:.2f}"


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
            yield (indent + (" " * _GAP).join(cells)).rstrip()
    yield from lines


def _console() -> Console:
    from rich.console import Console

    if speak.color():
        return Console(force_terminal=True, highlight=False, markup=False)
    return Console(color_system=None, highlight=False, markup=False)


def _drawn(tables: Sequence[Table], lines: Sequence[str], width: int) -> list[Text]:
    from rich.text import Text

    drawn: list[Text] = []
    for table in tables:
        if drawn:
            drawn.append(Text())
        if table.title:
            drawn.append(Text(f"{table.title} ({len(table.rows)})", style=table.style))
        drawn += _draw_rows(table, width)
    if drawn and lines:
        drawn.append(Text())
    return [*drawn, *(Text(line, style="dim") for line in lines)]


def _draw_rows(table: Table, width: int) -> list[Text]:
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    indent = "  " if table.title else ""
    rows = [tuple(speak.one_line(cell) for cell in row) for row in table.rows]
    names = tuple(column.name for column in table.columns)
    shown = [at for at, column in enumerate(table.columns) if not column.note and any(row[at] for row in rows)]
    natural = {at: max(cell_len(row[at]) for row in (*rows, *([names] if table.header else []))) for at in shown}
    widths = _fit(natural, table.columns, width - len(indent))
    drawn = []
    if table.header and rows:
        cells = (set_cell_size(names[at], widths[at]) for at in shown)
        drawn.append(Text((indent + (" " * _GAP).join(cells)).rstrip(), style="dim"))
    for row in rows:
        line, rest = Text(indent), list[str]()
        for at in shown:
            if at != shown[0]:
                line.append(" " * _GAP)
            cell = row[at]
            if table.columns[at].wraps and at == shown[-1]:
                cell, *rest = textwrap.wrap(cell, widths[at]) or [""]
            line.append(_cut(cell, widths[at]), style=table.columns[at].style)
        line.rstrip()
        offset = len(indent) + sum(widths[at] + _GAP for at in shown[:-1])
        drawn += [line, *(Text(" " * offset + more, style=table.columns[shown[-1]].style) for more in rest)]
        notes = [row[at] for at, column in enumerate(table.columns) if column.note and row[at]]
        drawn += [Text(f"{indent}  {note}", style="dim") for note in notes]
    return drawn


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _fit(natural: dict[int, int], columns: Sequence[Column], width: int) -> dict[int, int]:
    """The width of each column: those that may shrink give way first, the widest most."""
    widths = dict(natural)
    room = width - _GAP * max(0, len(widths) - 1)
    while sum(widths.values()) > room:
        able = [at for at in widths if (columns[at].shrinks or columns[at].wraps) and widths[at] > _NARROWEST]
        able = able or [at for at in widths if widths[at] > _NARROWEST]
        if not able:
            break
        widths[max(able, key=lambda at: widths[at])] -= 1
    return widths
