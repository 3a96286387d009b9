"""The format of what is under `.octopoid` (DESIGN §2): its number, and who may touch it.

`run/format` holds the number. A queue without that file is of format 1, which had none. A queue of a newer format is
left alone by every command: who does not know what something means must not tell about it or change it.
"""

from __future__ import annotations

from octopoid.errors import Invalid
from octopoid.layout import Layout

FORMAT = 2
"""What this version reads and writes. `migrating.STEPS` has a row for each."""


def read(layout: Layout) -> int:
    """The format of this queue. Raises Invalid where the file says something else than a number."""
    try:
        text = layout.format.read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return 1
    if not (text.strip().isdecimal() and len(text) < 6 and int(text)):
        hint = f"it should hold one number; this octopoid writes {FORMAT}"
        raise Invalid(f"{layout.format}: {text[:40].strip()!r} is no number of a format", hint=hint)
    return int(text)


def check(layout: Layout) -> None:
    """Raises Invalid where this queue is of a newer format than this version knows."""
    found = read(layout)
    if found > FORMAT:
        raise Invalid(
            f"{layout.home} was written by a newer octopoid (format {found}; this one knows up to {FORMAT})",
            hint=f"upgrade octopoid, or go back there with the newer one: `octopoid migrate --back {FORMAT}`",
        )
