"""Time as data. Inside: seconds since the epoch. On disk and in JSON: ISO 8601 in UTC (LESSONS 24)."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float) -> str:
    """`at` (seconds since the epoch) as `2026-11-21T09:30:00.123Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> float:
    """The seconds since the epoch of what `iso` wrote. Raises ValueError, also for a time without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()
