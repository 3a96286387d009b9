"""Octopoid's own sections of a task file, and the one way in which it writes into what a person wrote.

A section is `<!-- octopoid:KIND -->` on a line of its own, text, `<!-- octopoid:end -->` on a line of its own. It is
appended after a newline, replaced where it stands, and every other byte of the file stays as it is. All of this works
on bytes: the file's line ends, a BOM and whatever is no UTF-8 pass through untouched.

What counts as ours is decided in favour of the person (LESSONS 1, 5):

- a start without its own end (the next marker is another start, or there is none) is the person's text from then on,
  marker included: where our text stops and theirs begins can no longer be told;
- a start and end inside a closed code fence are an example that a person shows, not a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

KINDS = ("feedback", "questions", "blocked", "result")
LIMIT = 8192
"""Bytes of text in one section (UTF-8, without carriage returns); what is longer loses its middle."""

_MAX_QUESTIONS = 20
# Each begins with a newline, which the engine finds at the speed of memchr; so the data is searched with one before it.
_MARK = re.compile(
    rb"\n(?:<!--[ \t]*octopoid:(feedback|questions|blocked|result|end)[ \t]*-->[ \t]*\r?(?=\n|\Z)"
    rb"| {0,3}(`{3,}|~{3,})([^\n]*))"
)
# Patterns as text: compiled when something is written, not at every start of every command.
_FORGED = r"<!--(?=\s*octopoid:)"
_ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]"
_ASKED = r"\*\*Question ([0-9]{1,9})\*\*[ \t]*\Z"
_LABEL = r"(?i)[ \t]*\**Answer:\**"


class Span(NamedTuple):
    """One section: `data[start:end]` is all of it, `data[text:stop]` what stands between its markers."""

    kind: str
    start: int
    text: int
    stop: int
    end: int


class _Mark(NamedTuple):
    """A line that is a marker of ours (`kind`) or a code fence (`fence` and the `rest` of its line)."""

    start: int
    end: int
    kind: str
    fence: bytes
    rest: bytes


def spans(data: bytes) -> tuple[Span, ...]:
    """Every section in `data`, in order. Linear in its size, and next to nothing where there is none."""
    found = []
    opening: _Mark | None = None
    for mark in _markers(data):
        if mark.kind != "end":
            opening = mark
        elif opening:
            found.append(Span(opening.kind, opening.start, opening.end, mark.start, mark.end))
            opening = None
    return tuple(found)


def put(data: bytes, kind: str, text: str) -> bytes:
    """`data` with `text` as its section `kind`: in the place of the one it has, else at the end.

    Where the file does not end with a newline one is added first. `text` is bounded to LIMIT, its control characters
    and markers are made harmless. Raises ValueError for a kind that is not in KINDS.
    """
    if kind not in KINDS:
        raise ValueError(f"no such section: {kind}")
    ended = data if not data or data.endswith(b"\n") else data + _newline(data)
    inside = _bounded(_harmless(text), LIMIT)
    section = f"<!-- octopoid:{kind} -->\n{inside}\n<!-- octopoid:end -->\n".encode().replace(b"\n", _newline(ended))
    mine = [one for one in spans(data) if one.kind == kind]
    if not mine:
        return ended + section
    # A second section of one kind can only be a copy: one current value per kind (LESSONS 7).
    return _replaced(data, mine, [*(b"" for _ in mine[1:]), section])


def drop(data: bytes, kind: str) -> bytes:
    """`data` without its section `kind`. Undoes `put`, but for the newline that `put` had to add."""
    mine = [one for one in spans(data) if one.kind == kind]
    return _replaced(data, mine, [b"" for _ in mine])


def strip(data: bytes) -> bytes:
    """What the person wrote: `data` without any section."""
    found = spans(data)
    return _joined(data, found, [b"" for _ in found])


def read(data: bytes, kind: str) -> str | None:
    """The text of the section `kind`, its lines ended by a newline alone; None where there is none."""
    last = next((one for one in reversed(spans(data)) if one.kind == kind), None)
    return _decode(data[last.text : last.stop]) if last else None


def questions_text(questions: Sequence[str]) -> str:
    """The text of a section that asks a person `questions` and leaves room for the answers."""
    asked = questions[:_MAX_QUESTIONS]
    room = (LIMIT - 1024) // max(1, len(asked)) - 64
    parts = ["Write each answer after its `Answer:` and save the file."]
    for number, question in enumerate(asked, 1):
        parts.append(f"**Question {number}**\n\n{_quoted(question, room)}\n\nAnswer:")
    if len(questions) > len(asked):
        parts.insert(1, f"({len(questions) - len(asked)} more questions are in the evidence of the attempt.)")
    return "\n\n".join(parts)


def answers(data: bytes) -> tuple[tuple[str, str], ...]:
    """The questions of the section `questions` with the answers as the person filled them in, "" where there is none.

    Reading is more generous than writing: where the person removed the end marker, the section goes on to the next
    marker or to the end of the file.
    """
    blocks: list[list[str]] = []
    for line in _questions_section(data).split("\n"):
        asked = re.match(_ASKED, line)
        if asked and int(asked[1]) == len(blocks) + 1:
            blocks.append([])
        elif blocks:
            blocks[-1].append(line)
    return tuple(_question_and_answer(block) for block in blocks)


def mentions_answers(data: bytes) -> bool:
    """Whether there are questions and a person has answered every one of them."""
    pairs = answers(data)
    return bool(pairs) and all(answer for _, answer in pairs)


def opens_fence(fence: bytes, rest: bytes) -> bool:
    """Whether a line of `fence` and then `rest` opens a code block: "```x```" on one line does not (CommonMark)."""
    return fence[:1] == b"~" or b"`" not in rest


def closes_fence(opening: bytes, fence: bytes, rest: bytes) -> bool:
    """Whether a line of `fence` and then `rest` ends the code block that `opening` began."""
    return fence.startswith(opening) and not rest.strip()


def _markers(data: bytes) -> Iterator[_Mark]:
    """The marker lines of `data`, without those that a closed code fence shows as an example."""
    marks = _marks(data) if b"octopoid:" in data else []
    position, fences_close = 0, True
    while position < len(marks):
        mark = marks[position]
        end = _end_of_section(marks, position)
        if mark.kind:
            # Between our own markers a fence says nothing about the person's text: straight to the end.
            yield from (mark, marks[end]) if end else (mark,)
        elif fences_close and opens_fence(mark.fence, mark.rest):
            end = _end_of_fence(marks, position)
            fences_close = end > 0
        position = (end or position) + 1


def _marks(data: bytes) -> list[_Mark]:
    # With the newline before it, a match starts where its line starts in `data` and ends one behind its last byte.
    return [
        _Mark(match.start(), min(match.end(), len(data)), (match[1] or b"").decode("ascii"), match[2] or b"", match[3])
        for match in _MARK.finditer(b"\n" + data)
    ]


def _end_of_fence(marks: Sequence[_Mark], opening: int) -> int:
    """Where the code block ends that begins at `opening`; 0 if it never does: our own sections may well follow then."""
    position = opening + 1
    while position < len(marks):
        mark = marks[position]
        if not mark.kind and closes_fence(marks[opening].fence, mark.fence, mark.rest):
            return position
        position = (_end_of_section(marks, position) or position) + 1
    return 0


def _end_of_section(marks: Sequence[_Mark], start: int) -> int:
    """Where the end marker is that belongs to `start`: the next marker, if it is one; else 0."""
    if marks[start].kind in KINDS:
        for position in range(start + 1, len(marks)):
            if marks[position].kind:
                return position if marks[position].kind == "end" else 0
    return 0


def _replaced(data: bytes, old: Sequence[Span], new: Sequence[bytes]) -> bytes:
    """`data` with `new` in the place of `old`; b"" takes a section out.

    But where a start and an end that the person left alone would become a pair by that, and what stands between them a
    section of ours, it is only emptied.
    """
    result, gone = _joined(data, old, new), sum(not one for one in new)
    if not gone or len(spans(result)) == len(spans(data)) - gone:
        return result
    empty = (data[one.start : one.text] + data[one.stop : one.end] for one in old)
    return _joined(data, old, [text or emptied for text, emptied in zip(new, empty, strict=True)])


def _joined(data: bytes, old: Sequence[Span], new: Sequence[bytes]) -> bytes:
    parts, at = [], 0
    for one, text in zip(old, new, strict=True):
        parts += [data[at : one.start], text]
        at = one.end
    return b"".join((*parts, data[at:]))


def _newline(data: bytes) -> bytes:
    first = data.find(b"\n")
    return b"\r\n" if first > 0 and data[first - 1 : first] == b"\r" else b"\n"


def _decode(data: bytes) -> str:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return text.removesuffix("\n")


def _harmless(text: str) -> str:
    """`text` without colours, NUL (it would make the file invalid) and markers of ours."""
    plain = re.sub(_ESCAPES, "", text.replace("\r\n", "\n").replace("\r", "\n"))
    plain = re.sub(_CONTROLS, "\ufffd", plain).encode("utf-8", "replace").decode("utf-8")
    return re.sub(_FORGED, "&lt;!--", plain).rstrip()


def _bounded(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes: its beginning and its end, with a note of what was cut between them."""
    data = text.encode("utf-8")
    if len(data) <= limit:
        return text
    note = f"\n\n[… {len(data) - limit} bytes cut here; the whole text is in the evidence of the attempt …]\n\n"
    half = max(0, (limit - len(note.encode("utf-8")))) // 2
    head = data[:half].decode("utf-8", "ignore")
    tail = data[len(data) - half :].decode("utf-8", "ignore")
    return head + note + tail


def _quoted(text: str, limit: int) -> str:
    """`text` with every line behind a `>`, so that nothing in a question looks like an answer to it."""
    quoted = _bounded("\n".join(f"> {line}".rstrip() for line in _harmless(text).split("\n")), limit)
    return "\n".join(line if line.startswith(">") else f"> {line}".rstrip() for line in quoted.split("\n"))


def _questions_section(data: bytes) -> str:
    """The text of the last `questions` section, complete or not; "" where there is none."""
    markers = list(_markers(data))
    starts = [number for number, one in enumerate(markers) if one.kind == "questions"]
    if not starts:
        return ""
    following = starts[-1] + 1
    stop = markers[following].start if following < len(markers) else len(data)
    return _decode(data[markers[starts[-1]].end : stop])


def _question_and_answer(block: Sequence[str]) -> tuple[str, str]:
    """The quoted lines are the question, whatever else stands there is the answer."""
    lines = list(block)
    while lines and not lines[0].strip():
        lines.pop(0)
    question = []
    while lines and lines[0].startswith(">"):
        question.append(lines.pop(0)[1:].removeprefix(" "))
    for number, line in enumerate(lines):
        label = re.match(_LABEL, line)
        if label:
            lines[number] = line[label.end() :]
            break
    return "\n".join(question), "\n".join(lines).strip()
