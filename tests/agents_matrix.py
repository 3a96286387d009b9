"""Every program × every case (`scripts/test-agents`), and the table in docs/agents.md that comes out of it."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import agentoutputs
from agentcases import CASES, Cell, measure
from agentdrivers import DRIVERS, Driver, version
from harness import PROJECT

from octopoid.adapters import ADAPTERS

LIMIT = 180
"""Seconds for a case, whatever it waits for."""
PAGE = PROJECT / "docs/agents.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
FACTS = "<!-- facts:begin -->", "<!-- facts:end -->"
CAPS = ("max_turns", "max_tokens", "max_usd")
OUTPUTS = "outputs we rely on"
"""A row of the table that is no case: the fields of its records, and its flags (agentoutputs)."""
ROWS = (*CASES, OUTPUTS)
FAILED = "**FAILED**"

_TABLE = re.compile(rf"{BEGIN}\n(.*?){END}\n", re.DOTALL)
_FACTS = re.compile(rf"{FACTS[0]}\n(.*?){FACTS[1]}\n", re.DOTALL)
_MEASURED = re.compile(r"^- `([\w-]+)` (.+?), measured on (\d{4}-\d\d-\d\d)", re.MULTILINE)


class Table(NamedTuple):
    """What the page says. `cells`: by program and case. `measured`: the version and the day of each program."""

    cells: Mapping[tuple[str, str], str]
    measured: Mapping[str, tuple[str, str]]

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(name for name in DRIVERS if name in self.measured)


def run(name: str, cases: Iterable[str]) -> Iterator[tuple[str, str, Cell]]:
    """Put a program through the cases, one after the other, and say on stderr what is going on."""
    for case in cases:
        print(f"{name:15} {case:24} ", end="", file=sys.stderr, flush=True)
        place = Path(tempfile.mkdtemp(prefix="octopoid-agents-")).resolve()
        driver = DRIVERS[name]
        try:
            with _limited(LIMIT):
                cell = agentoutputs.measure(driver, place) if case == OUTPUTS else measure(driver, case, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        trouble = "".join(f"\n    {line}" for line in cell.trouble.splitlines())
        print(f"{cell.seconds:6.1f} s  {cell.word}{trouble}", file=sys.stderr, flush=True)
        yield name, case, cell


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """TimeoutError in the middle of whatever is being waited for."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def shown(cell: Cell) -> str:
    """A cell as the table has it."""
    failed = f"{FAILED}: " if cell.trouble else ""
    return f"{failed}{cell.word} ({max(1, round(cell.seconds))} s)".replace("|", "\\|")


def read(page: str) -> Table:
    """The table that a page has; an empty one where it has none."""
    found = _TABLE.search(page)
    if not found:
        return Table({}, {})
    measured = {name: (which, day) for name, which, day in _MEASURED.findall(found[1])}
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines() if line[:1] == "|"
    ]
    programs = [one.strip("` ") for one in rows[0][1:]] if rows else []
    cells = {
        (program, row[0].strip("| ")): cell.strip("| ")
        for row in rows[2:]
        for program, cell in zip(programs, row[1:], strict=False)
        if cell.strip("| ")
    }
    return Table(cells, measured)


def merged(table: Table, found: Iterable[tuple[str, str, Cell]], day: str) -> Table:
    """The table with what was measured on `day` (a date)."""
    known = list(found)
    cells = {**table.cells, **{(name, case): shown(cell) for name, case, cell in known}}
    versions = {name: (version(DRIVERS[name]), day) for name in dict.fromkeys(name for name, *_ in known)}
    return Table(cells, {**table.measured, **versions})


def markdown(table: Table) -> str:
    """The table as the page has it: cases down, programs across."""
    programs = table.programs
    lines = [f"- `{name}` {table.measured[name][0]}, measured on {table.measured[name][1]}" for name in programs]
    lines += ["", f"| case | {' | '.join(f'`{name}`' for name in programs)} |", "|---" * (len(programs) + 1) + "|"]
    measured = [row for row in ROWS if any((name, row) in table.cells for name in programs)]
    lines += [f"| {row} | {' | '.join(table.cells.get((name, row), '') for name in programs)} |" for row in measured]
    return "\n".join(lines) + "\n"


def facts() -> str:
    """What the adapters say of their programs, as the page has it."""
    lines = [
        "| adapter | program | installed by | credential in `env:` | or a login | limits | `base_url` | hears `say` |",
        "|---" * 8 + "|",
    ]
    for name in DRIVERS:
        one = ADAPTERS[name].facts
        limits = ", ".join(f"`{key}`" for key in CAPS if key not in one.ignores)
        cells = (
            *(f"`{name}`", f"`{one.program}`" if one.program else "comes with octopoid"),
            *(f"`{one.install}`" if one.install else "–", ", ".join(f"`{key}`" for key in one.keys) or "–"),
            *(one.login or "–", limits or "none", "no" if "base_url" in one.ignores else "yes"),
            "yes" if one.hears else "the next attempt does",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(page: Path, table: Table) -> None:
    """Put both tables between their markers."""
    text = page.read_text(encoding="utf-8")
    for pattern, (begin, end), fresh in ((_TABLE, (BEGIN, END), markdown(table)), (_FACTS, FACTS, facts())):
        if not pattern.search(text):
            raise SystemExit(f"{page}: there is no {begin} … {end}")
        whole = f"{begin}\n{fresh}{end}\n"
        text = pattern.sub(lambda _, whole=whole: whole, text)  # type: ignore[misc]  # mypy wants it annotated
    page.write_text(text, encoding="utf-8")


def drivers(names: Iterable[str]) -> list[Driver]:
    """The programs of these names. Raises SystemExit for one that is not known."""
    unknown = [name for name in names if name not in DRIVERS]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not known here; there are {', '.join(DRIVERS)}")
    return [DRIVERS[name] for name in names]
