"""What aider says, line by line (measured with 0.86.2): plain text, of which a few lines are its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from octopoid.adapters.events import DENIED, NOTE, RETRY, STARTED, TOOL, USAGE, Event
from octopoid.model import Usage

MODEL = re.compile(rb"^(?:Model|Main model): (\S+) with ", re.M)
FAILED = re.compile(rb"^litellm\.\w+: ", re.M)
"""How it begins to say that the model did not answer."""
COUNTED = re.compile(rb"^Tokens: [\d.,kM]+ sent", re.M)
"""What it says after each answer that came."""
FULL = re.compile(rb"^Model \S+ has hit a token limit!", re.M)
STOPPED = re.compile(rb"^Only \d+ reflections allowed, stopping\.", re.M)

_USED = re.compile(
    r"^Tokens: (?P<sent>\S+) sent(?:, \S+ cache write)?(?:, (?P<hit>\S+) cache hit)?, (?P<got>\S+) received\."
    r"(?: Cost: \$(?P<usd>[\d.]+) message)?"
)
_TIMES = {"k": 1_000, "M": 1_000_000}

_Reader = Callable[["re.Match[str]"], "tuple[Event, ...]"]


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is the model's own text, or a message that explains itself."""
    text = line.decode("utf-8", "replace").rstrip()
    return next((read(found) for pattern, read in _LINES if (found := pattern.match(text))), None)


def _nothing(_found: re.Match[str]) -> tuple[Event, ...]:
    return ()


def _used(found: re.Match[str]) -> tuple[Event, ...]:
    """Of one answer, as it rounds them; the exact numbers are in its own file, which is read in the end."""
    usd = float(found["usd"]) if found["usd"] else None
    hit = _count(found["hit"]) if found["hit"] else None
    return (Event(USAGE, usage=Usage(_count(found["sent"]), _count(found["got"]), usd, hit)),)


def _count(text: str) -> int | None:
    """`1.2k` is 1200."""
    try:
        return round(float(text.rstrip("kM")) * _TIMES.get(text[-1], 1))
    except ValueError:
        return None


_LINES: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (re.compile(r"Aider v(\S+)$"), lambda found: (Event(STARTED, name=f"aider {found[1]}"),)),
    (re.compile(r"(?:Model|Main model): (\S+) with "), lambda found: (Event(STARTED, model=found[1]),)),
    (re.compile(r"(?:Weak model|Git repo|Repo-map): |HTTPSConnectionPool\(host='raw\.githubusercontent"), _nothing),
    (_USED, _used),
    (re.compile(r"Applied edit to (.+)$"), lambda found: (Event(TOOL, found[1], name="edit"),)),
    (
        re.compile(r"(?:Did not apply edit to|Skipping edits to) (.+)$"),
        lambda found: (Event(DENIED, found[1], name="edit"),),
    ),
    (re.compile(r"litellm\.\w+: (.+)$"), lambda found: (Event(NOTE, found[0], error=True),)),
    (re.compile(r"Retrying in ([\d.]+) seconds"), lambda found: (Event(RETRY, wait=float(found[1].rstrip("."))),)),
)
