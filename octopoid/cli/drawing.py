"""Tables on a terminal: fitted to its width and coloured, with rich. Loaded by `render`, and only for a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from octopoid.cli import speak
from octopoid.cli.render import GAP, Column, Table

_NARROWEST = 12
"""Characters. A column that may shrink is never narrower than this."""


def show(tables: Sequence[Table], lines: Sequence[str]) -> None:
    """Print the tables, then `lines`."""
    console = _console()
    for line in _drawn(tables, lines, console):
        console.print(line, soft_wrap=True)


def watch(make: Callable[[], tuple[Sequence[Table], Sequence[str]]], every: float = 1.0) -> None:
    """Draw what `make` gives again each `every` seconds, until Ctrl-C."""
    console = _console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                tables, lines = make()
                live.update(Group(*_drawn(tables, lines, console)), refresh=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return


def _console() -> Console:
    if speak.color():
        return Console(force_terminal=True, highlight=False, markup=False)
    return Console(color_system=None, highlight=False, markup=False)


def _drawn(tables: Sequence[Table], lines: Sequence[str], console: Console) -> list[Text]:
    drawn: list[Text] = []
    for table in tables:
        if drawn:
            drawn.append(Text())
        if table.title:
            drawn.append(Text(f"{table.title} ({len(table.rows)})", style=table.style))
        drawn += _rows(table, console)
    if drawn and lines:
        drawn.append(Text())
    return [*drawn, *(Text(speak.clean_text(line), style="dim") for line in lines)]


def _rows(table: Table, console: Console) -> list[Text]:
    indent = "  " if table.title else ""
    rows = [tuple(speak.one_line(cell) for cell in row) for row in table.rows]
    names = tuple(column.name for column in table.columns)
    shown = [at for at, column in enumerate(table.columns) if not column.note and any(row[at] for row in rows)]
    natural = {at: max(cell_len(row[at]) for row in (*rows, *([names] if table.header else []))) for at in shown}
    widths = _fit(natural, table.columns, console.width - len(indent))
    drawn = []
    if table.header and rows:
        cells = (set_cell_size(names[at], widths[at]) for at in shown)
        drawn.append(Text((indent + (" " * GAP).join(cells)).rstrip(), style="dim"))
    for row in rows:
        drawn += _row({at: row[at] for at in shown}, widths, table.columns, indent, console)
        for note, column in zip(row, table.columns, strict=True):
            if column.note and note:
                drawn.append(Text(f"{indent}  {note}", style=column.style if column.loud else "dim"))
    return drawn


def _row(
    cells: dict[int, str], widths: dict[int, int], columns: Sequence[Column], indent: str, console: Console
) -> list[Text]:
    """One row, and the lines in which its last cell goes on."""
    line, rest, last = Text(indent), list[Text](), max(cells, default=0)
    for at, cell in cells.items():
        line.append(" " * GAP if len(line) > len(indent) else "")
        if columns[at].wraps and at == last and cell_len(cell) > widths[at]:
            first, *rest = Text(cell, style=columns[at].style).wrap(console, widths[at])
            line.append_text(first)
        else:
            line.append(_cut(cell, widths[at]), style=columns[at].style)
    line.rstrip()
    offset = len(indent) + sum(widths[at] + GAP for at in cells if at != last)
    return [line, *(Text(" " * offset).append_text(more) for more in rest)]


def _cut(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _fit(natural: dict[int, int], columns: Sequence[Column], width: int) -> dict[int, int]:
    """The width of each column: those that may shrink give way first, the widest most."""
    widths = dict(natural)
    room = width - GAP * max(0, len(widths) - 1)
    while sum(widths.values()) > room:
        able = [at for at in widths if (columns[at].shrinks or columns[at].wraps) and widths[at] > _NARROWEST]
        able = able or [at for at in widths if widths[at] > _NARROWEST]
        if not able:
            break
        widths[max(able, key=lambda at: widths[at])] -= 1
    return widths
