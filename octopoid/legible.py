"""Text that somebody else wrote, for a person's terminal: no escapes, no control characters, nothing invisible.

Titles, file names, logs, questions, feedback, diffs: whoever wrote them must not move the cursor, set the clipboard
(OSC 52), hide where a link leads (OSC 8), turn the direction around or write what only a model can see.
"""

from __future__ import annotations

import re

# Compiled when they are needed: `status` of a queue in plain words does without.
# Colours and cursor movements (CSI), titles, links and the clipboard (OSC and the like), other escapes …
_ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
# … then what is left of control characters (C0, C1), marks that turn the direction of text around, characters without a
# width, and tags (U+E0000 on), in which whole sentences can stand that nobody sees.
_HIDDEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
    # A joiner belongs between letters of scripts that need it, and into emoji: never next to ASCII.
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_MARK = "\ufffd"


def clean_text(text: str) -> str:
    """Untrusted text without terminal escapes and hidden characters; newlines and tabs stay."""
    if text.isprintable():
        return text
    return re.sub(_HIDDEN, _MARK, re.sub(_ESCAPES, "", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 0) -> str:
    """The first line of untrusted `text` that says something; at most `limit` characters (0: all of it)."""
    first = next((line.strip() for line in clean_text(text).splitlines() if line.strip()), "")
    return first if not limit or len(first) <= limit else f"{first[: limit - 1]}…"


def escaped(json_text: str) -> str:
    """JSON that means the same, with hidden characters as `\\u…`: what stands in it is shown, and does nothing."""
    return re.sub(f"(?!\n){_HIDDEN}", _escape, json_text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2))
