"""Time as data. Inside: seconds since the epoch. On disk and in JSON: ISO 8601 in UTC (LESSONS 24)."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float) -> str:
    """`at` (seconds since the epoch) as `2026-11-21T09:30:00.123Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at: float) -> str:
    """`at` (seconds since the epoch) for people: `2026-11-21 10:30:00`, in local time."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def parse(text: str) -> float:
    """The seconds since the epoch of what `iso` wrote. Raises ValueError, also for a time without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()
