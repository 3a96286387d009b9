"""`events.jsonl`: one line per transition, appended. An audit trail; nothing reads it as truth (DESIGN §2).

A line takes some 200 bytes, a task some seven lines: 1.5 KB a task. It is never rotated: 50,000 tasks are 70 MB, and
what reads it often reads its end alone, or goes on where it stopped (`Folders`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from octopoid import clock, durable, regular
from octopoid.layout import Layout

TAIL = 256 * 1024
"""Bytes. What is looked for at the end of the journal: the last thousand moves."""

_BLOCK = 64 * 1024
_MARK = 200
"""Bytes at the end of what was read, by which a journal is known again that somebody replaced."""


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


def backwards(layout: Layout, limit: int = 0, word: bytes = b"") -> Iterator[Event]:
    """The events, the newest first, without their numbers; at most those in the last `limit` bytes (0: all).

    `word`: only lines in which it stands.
    """
    try:
        file = regular.opened(layout.events)
    except OSError:
        return
    with file:
        end = file.seek(0, os.SEEK_END)
        stop = max(0, end - limit) if limit else 0
        rest = b""
        while end > stop:
            start = max(stop, end - _BLOCK)
            file.seek(start)
            data = file.read(end - start) + rest
            first, *lines = data.split(b"\n") if word in data else (data.partition(b"\n")[0],)
            found = (_parse(line, 0) for line in reversed(lines) if word in line)
            yield from (event for event in found if event is not None)
            rest, end = first, start
        if end == 0 and word in rest and (event := _parse(rest, 0)) is not None:
            yield event


def told(layout: Layout, task: str) -> str | None:
    """The folder in which the newest lines leave `task`, "" where that is none; None: they do not speak of it."""
    for event in backwards(layout, TAIL, json.dumps(task).encode()):
        if event.task == task and (event.leaves or event.enters):
            return event.enters
    return "" if size(layout) <= TAIL else None


def about(layout: Layout, task: str) -> list[Event]:
    """Every event of `task`, the oldest first. Goes through the whole journal, but understands only what it needs."""
    word = json.dumps(task).encode()
    try:
        with regular.opened(layout.events) as file:
            found = [_parse(line, number) for number, line in enumerate(file, start=1) if word in line]
    except OSError:
        return []
    return [event for event in found if event is not None and event.task == task]


class Folders:
    """Where the journal leaves every task. Reads on from where it stopped; `keep` spares the next process the rest."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._read, self._mark, self._kept = 0, b"", 0
        self.of: dict[str, str] = {}
        self._load()

    def update(self) -> bool:
        """Take in what was written since. True: there was something."""
        now = size(self._layout)
        if now == self._read and now:
            return False
        try:
            with regular.opened(self._layout.events) as file:
                if now < self._read or not self._known(file):
                    self._read, self._kept, self.of = 0, 0, {}
                file.seek(self._read)
                data = file.read()
        except OSError:
            self._read, self._kept, self.of = 0, 0, {}
            return False
        whole = data[: data.rfind(b"\n") + 1]  # of a line that is being written there is only the beginning
        for line in whole.splitlines():
            self._take(line)
        if whole:
            self._read += len(whole)
            self._mark = whole[-_MARK:]
        return bool(whole)

    def keep(self) -> None:
        """Write down what is known, where it took some reading. Only spares work: it may be removed at any time."""
        if self._read - self._kept < TAIL:
            return
        record = {"read": self._read, "mark": self._mark.decode("latin-1"), "folders": self.of}
        durable.write(self._layout.run / "journal.json", json.dumps(record).encode(), sync=False)
        self._kept = self._read

    def _load(self) -> None:
        try:
            record = json.loads(regular.read(self._layout.run / "journal.json", 1 << 30))
            self._read, self.of = int(record["read"]), dict(record["folders"])
            self._mark, self._kept = record["mark"].encode("latin-1"), self._read
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._read, self._mark, self._kept, self.of = 0, b"", 0, {}

    def _known(self, file: Any) -> bool:
        file.seek(max(0, self._read - len(self._mark)))
        return bool(file.read(len(self._mark)) == self._mark)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            task, leaves, enters = record.get("task"), record.get("from"), record.get("to")
        except (ValueError, AttributeError, RecursionError):
            return
        if task and enters:
            self.of[task] = enters
        elif task and leaves:
            self.of.pop(task, None)


def size(layout: Layout) -> int:
    """Bytes; 0 where there is no journal yet."""
    try:
        return layout.events.stat().st_size
    except OSError:
        return 0


def read(layout: Layout, since: int = 0) -> Iterator[Event]:
    """The events after number `since`. A torn or foreign line is passed over: it is no truth."""
    try:
        with regular.opened(layout.events) as file:
            for number, line in enumerate(file, start=1):
                if number > since and (event := _parse(line, number)) is not None:
                    yield event
    except OSError:
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
