"""`events.jsonl`: one line per transition, appended. An audit trail; nothing reads it as truth (DESIGN §2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from octopoid import clock, durable
from octopoid.layout import Layout


class Event(NamedTuple):
    """One line. `seq` is its number in the file, from 1; `task` is "" for what concerns the scheduler."""

    at: float
    event: str
    task: str = ""
    leaves: str = ""
    enters: str = ""
    by: str = "scheduler"
    entry: int = 0
    detail: str = ""
    seq: int = 0


def append(layout: Layout, event: Event) -> None:
    """Add one line. The rename was made durable before; the line may be lost in a power cut, and healing adds it."""
    record = plain(event)
    del record["seq"]
    line = json.dumps({key: value for key, value in record.items() if value not in ("", 0)}, ensure_ascii=False)
    durable.append_line(layout.events, line.encode() + b"\n")


def plain(event: Event) -> dict[str, Any]:
    """The event as it is printed and stored: `from` and `to` are the folders."""
    return {
        "seq": event.seq,
        "at": clock.iso(event.at),
        "event": event.event,
        "task": event.task,
        "from": event.leaves,
        "to": event.enters,
        "by": event.by,
        "entry": event.entry,
        "detail": event.detail,
    }


def read(layout: Layout, since: int = 0) -> Iterator[Event]:
    """The events after number `since`. A torn or foreign line is passed over: it is no truth."""
    try:
        with layout.events.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number > since and (event := _parse(line, number)) is not None:
                    yield event
    except FileNotFoundError:
        return


def _parse(line: bytes, number: int) -> Event | None:
    try:
        record = json.loads(line)
        return Event(
            at=clock.parse(record["at"]),
            event=str(record["event"]),
            task=str(record.get("task", "")),
            leaves=str(record.get("from", "")),
            enters=str(record.get("to", "")),
            by=str(record.get("by", "")),
            entry=int(record.get("entry", 0)),
            detail=str(record.get("detail", "")),
            seq=number,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
