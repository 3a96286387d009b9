"""A task file: bytes to `Task` and back. What is wrong is refused with line and column, never guessed (DESIGN §3).

Everything here is linear in the size of the file, and the long stretches between headings, fences and list items are
crossed by one regular expression that hops from newline to newline, so 10 MB of log below a task cost a few hundredths
of a second.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple, NoReturn

from octopoid import sections, taskhead
from octopoid.errors import Invalid
from octopoid.model import Criterion, Task
from octopoid.taskhead import MAX_ID, PRIORITIES, Report, check_id

__all__ = ("check_id", "compose", "parse", "slug", "valid_id")

MAX_HEAD = 64 * 1024
"""Bytes of front matter."""

MAX_TITLE = 250
MAX_CRITERIA = 200
MAX_SLUG = 40

_BOM = b"\xef\xbb\xbf"
_OPENING = re.compile(rb"---[ \t]*(?:\r?\n|\Z)")
_CLOSING = re.compile(rb"\n---[ \t]*(?:\r?\n|\Z)")
_KEY = rb"(?:" + "|".join(taskhead.KEYS).encode("ascii") + rb"):[ \t]"
_MISPLACED = re.compile(rb"---[ \t]*\r?\n" + _KEY)
_UNOPENED = re.compile(_KEY + rb"[^\n]*\n(?:[a-z_-]+:[^\n]*\n)*+---[ \t]*(?:\r?\n|\Z)")
_BLANK = re.compile(rb"[ \t\r\n]*")
# Begins with a newline, which the engine finds at the speed of memchr (12 ms for 10 MB of prose).
_MARK = re.compile(
    rb"\n(?: {0,3}(?:(?P<heading>#{1,6})(?=[ \t\r\n]|\Z)|(?P<fence>`{3,}|~{3,})|(?P<comment><!--))"
    rb"|[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+\[(?P<box>[ xX])\](?=[ \t]))(?P<rest>[^\n]*)"
)
_CRITERIA = "acceptance criteria"
_SPELLED = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "þ": "th", "ð": "d"})


class _Survey(NamedTuple):
    """What the text below the front matter says to a program."""

    title: str
    criteria: tuple[Criterion, ...]


def valid_id(text: str) -> bool:
    """Whether `text` can be the id of a task."""
    return not check_id(text)


def parse(data: bytes, path: Path) -> Task:
    """The task that `data` asks for; `path` gives its id and names the file in what is wrong. Reads no disk but to
    find a free name for a file whose own is no id.

    Raises Invalid with every Problem that can be found in one pass.
    """
    report = Report(path)
    _check_name(report)
    _check_bytes(data, report)
    start = len(_BOM) if data.startswith(_BOM) else 0
    text, below = _front_matter(data, start, report)
    own = sections.spans(data[below:])
    written = data[below:]
    body = sections.strip(written) if own else written
    if text is None and not body.strip():
        _refuse(report, 0, 0, "the file is empty", "write at least a title: `# What is to be done`")
    head = taskhead.Head()
    if text:
        head = taskhead.head(taskhead.read(text, report), path.stem, report)
    survey = _survey(_blanked(written, own), 1 + data.count(b"\n", 0, below), report)
    if report.problems:
        raise report.invalid()
    title = survey.title or _title_of(path.stem)
    return Task(path.stem, title, _body(body, survey.title), criteria=survey.criteria, **head._asdict())


_SPACES = " \t\n\r\v\f"  # str.strip() alone would also take control characters that are the user's text


def compose(
    *,
    title: str,
    body: str = "",
    priority: int = 2,
    role: str | None = None,
    flow: str = "default",
    depends_on: Sequence[str] = (),
    base: str | None = None,
    labels: Sequence[str] = (),
    project: str | None = None,
    parent: str | None = None,
    criteria: Sequence[str] = (),
) -> bytes:
    """The bytes of a new task file. `parse` reads them back as the same values, the body without white space around it.

    `criteria`, as they stand behind `- [ ]`, come below the body under a heading of their own. Keys with their default
    value are left out; without any there is no front matter. Line ends are those of `body`. Raises Invalid for a value
    that a task file cannot hold.
    """
    title = title.strip()
    newline = "\r\n" if "\n" in body and body[: body.index("\n")].endswith("\r") else "\n"
    word = PRIORITIES[priority] if 0 <= priority < len(PRIORITIES) else str(priority)
    values = (
        ("priority", word, "P2"),
        ("role", _scalar(role or ""), '""'),
        ("flow", _scalar(flow), "default"),
        ("depends_on", f"[{', '.join(map(_scalar, depends_on))}]", "[]"),
        ("base", _scalar(base or ""), '""'),
        ("labels", f"[{', '.join(map(_scalar, labels))}]", "[]"),
        ("project", _scalar(project or ""), '""'),
        ("parent", _scalar(parent or ""), '""'),
    )
    keys = [f"{key}: {value}" for key, value, default in values if value != default]
    # CommonMark takes a last run of `#` for decoration; one more of them saves it.
    heading = f"# {title} #" if _heading(title.encode("utf-8", "replace")) != title else f"# {title}"
    lines = [*(("---", *keys, "---") if keys else ()), heading]
    text = newline.join([*lines, "", body, ""] if body.strip(_SPACES) else [*lines, ""])
    text = text.removesuffix(newline) if body.endswith("\n") else text
    if criteria:
        items = (f"- [ ] {one.strip()}" for one in criteria)
        text += newline.join(["", f"## {_CRITERIA.capitalize()}", *items, ""])
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{text[error.start]!a} is not a character that UTF-8 knows", hint="write it as UTF-8") from None
    _check_composed(data, title, criteria)
    return data


def slug(title: str) -> str:
    """`title` as the beginning of an id: lower-case ASCII words joined by `-`, at most MAX_SLUG characters."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"['’]", "", _ascii(title)))
    kept = ""
    for word in filter(None, words):
        longer = f"{kept}-{word}" if kept else word[:MAX_SLUG]
        if len(longer) > MAX_SLUG:
            break
        kept = longer
    return kept or "task"


def _ascii(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.lower().translate(_SPELLED))
    return folded.encode("ascii", "ignore").decode("ascii").lower()


def _refuse(report: Report, line: int, column: int, message: str, hint: str = "") -> NoReturn:
    report.add(line, column, message, hint)
    raise report.invalid()


# The name


def _check_name(report: Report) -> None:
    wrong = check_id(report.path.stem)
    if wrong:
        free = _free_name(report.path)
        report.add(0, 0, f"the file name is the id, and {wrong}", f"mv -n {_shell(report.path)} {_shell(free)}")


def _free_name(path: Path) -> Path:
    """A valid name for the file in the same folder that no file has yet."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", _ascii(path.stem))
    stem = re.sub(r"\.\.+", ".", stem).strip("-._")[: MAX_ID - 4]
    stem = re.sub(r"(?:\.lock)+\Z", "", stem.strip("-._")).strip("-._") or "task"
    names = (f"{stem}{number}.md" for number in chain([""], (f"-{one}" for one in count(2))))
    return path.with_name(next(name for name in names if not os.path.lexists(path.with_name(name))))


def _shell(path: Path) -> str:
    """`path` as one word for a shell, also when it holds quotes, line ends or bytes that are no UTF-8."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if not text.isprintable():
        plain = bytes(set(range(32, 127)) - set(b"'\\"))
        return "$'" + "".join(chr(one) if one in plain else f"\\x{one:02x}" for one in os.fsencode(text)) + "'"
    if re.fullmatch(r"[A-Za-z0-9._/@%+=:,-]+", text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _title_of(stem: str) -> str:
    words = " ".join(stem.replace("-", " ").replace("_", " ").split())
    return words[:1].upper() + words[1:]


# The bytes


def _check_bytes(data: bytes, report: Report) -> None:
    """Refuse what is no UTF-8 text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(data):
        _refuse(report, 1, 1, "the file is UTF-16", "save it as UTF-8")
    null = data.find(b"\0")
    if null >= 0:
        _refuse(report, *_place(data, null), "a NUL byte", "remove it; it is often what a crash left of a file")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(data, error.start)
        _refuse(report, *place, f"not UTF-8: the byte 0x{data[error.start]:02x}", "save the file as UTF-8")


def _looks_like_utf16(data: bytes) -> bool:
    """Whether every other byte of the beginning is mostly NUL, as it is for western text without a BOM."""
    start = data[:200]
    nulls = max(start[::2].count(0), start[1::2].count(0))
    return len(start) > 3 and nulls > 0.2 * len(start) and b"\0\0" not in start


def _place(data: bytes, at: int) -> tuple[int, int]:
    """Line and column, in characters, of the byte at `at`."""
    start = data.rfind(b"\n", 0, at) + 1
    before = data[start:at].removeprefix(_BOM if start == 0 else b"")
    return 1 + data.count(b"\n", 0, at), 1 + len(before.decode("utf-8", "replace"))


# The front matter


def _front_matter(data: bytes, start: int, report: Report) -> tuple[str | None, int]:
    """The text between the two `---`, None where there is none, and where in `data` the rest begins."""
    opening = _OPENING.match(data, start)
    if opening is None:
        _check_no_front_matter(data, start, report)
        return None, start
    closing = _CLOSING.search(data, max(start, opening.end() - 1))
    if closing is None:
        hint = "write `---` on a line of its own below the keys; is line 1 meant as a rule, put the title above it"
        _refuse(report, 1, 1, "the front matter has no closing `---`", hint)
    if closing.start() - opening.end() > MAX_HEAD:
        _refuse(report, 1, 1, f"the front matter is larger than {MAX_HEAD // 1024} KiB", "put the text below it")
    text = data[opening.end() : closing.start() + 1].decode("utf-8")
    return text.replace("\r\n", "\n"), closing.end()


def _check_no_front_matter(data: bytes, start: int, report: Report) -> None:
    """A front matter that would be ignored because of where it stands is a mistake, not text."""
    if data.startswith(b"---\r", start):
        _refuse(report, 1, 4, "the lines end with carriage returns alone", "save the file with LF or CRLF line ends")
    first = _BLANK.match(data, start)
    at = first.end() if first else start
    line, _ = _place(data, at)
    if _MISPLACED.match(data, at):
        _refuse(report, line, 1, "the front matter does not begin on line 1", "remove what is above the `---`")
    if _UNOPENED.match(data, at):
        _refuse(report, line, 1, "the front matter has no opening `---`", "write `---` on a line of its own above it")


# The text below it


def _blanked(written: bytes, own: Sequence[sections.Span]) -> bytes:
    """`written` with our own sections emptied, every other line where it was."""
    parts, at = [], 0
    for span in own:
        parts += [written[at : span.start], b"\n" * written.count(b"\n", span.start, span.end)]
        at = span.end
    return b"".join([*parts, written[at:]])


def _survey(written: bytes, first_line: int, report: Report) -> _Survey:
    """The title and the criteria: outside code fences and comments, where a reader of the rendered page sees them."""
    data = b"\n" + written
    last = data.lower().rfind(b"criteria")
    title, level, counted, line, at = "", 0, 0, first_line - 1, 0
    criteria: list[Criterion] = []
    while (mark := _MARK.search(data, at)) and not (title and not level and mark.start() > last):
        at = mark.end()
        if mark["fence"]:
            at = _end_of_fence(data, mark)
        elif mark["comment"]:
            closed = data.find(b"-->", mark.start("comment"))
            at = closed if closed >= 0 else len(data)
        elif mark["heading"]:
            heading = _heading(mark["rest"])
            depth = len(mark["heading"])
            if heading.rstrip(":").lower().split() == _CRITERIA.split():
                level = min(level or depth, depth)
            else:
                level = level if depth > level else 0
                title = title or (heading if depth == 1 else "")
        elif level:
            line += data.count(b"\n", counted, mark.start() + 1)
            counted = mark.start() + 1
            criteria += _criterion(mark, line, report)
            if len(criteria) > MAX_CRITERIA:
                report.add(line, 1, f"more than {MAX_CRITERIA} acceptance criteria", "split the task")
                break
    return _Survey(title, tuple(criteria))


def _end_of_fence(data: bytes, opening: re.Match[bytes]) -> int:
    """Behind the code block that `opening` begins: at the end of the file if nothing closes it."""
    if not sections.opens_fence(opening["fence"], opening["rest"]):
        return opening.end()
    at = opening.end()
    while mark := _MARK.search(data, at):
        at = mark.end()
        if mark["fence"] and sections.closes_fence(opening["fence"], mark["fence"], mark["rest"]):
            return at
    return len(data)


def _heading(rest: bytes) -> str:
    """The text of a heading line behind its `#`, without the closing ones, without control characters, bounded."""
    text = rest.decode("utf-8").strip()
    bare = text.rstrip("#")
    text = bare.rstrip() if not bare or bare[-1] in " \t" else text
    if not text.isprintable():
        text = re.sub(taskhead.CONTROLS, " ", text).replace("\t", " ").strip()
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 1]}…"


def _criterion(mark: re.Match[bytes], line: int, report: Report) -> tuple[Criterion, ...]:
    """The criterion on one line; () for a box without any text, which is a template waiting to be filled in."""
    text = mark["rest"].decode("utf-8").strip()
    if not text:
        return ()
    if text.endswith(" ::") or text == "::":
        report.add(line, 1, "` :: ` without a command behind it", "write the command, or remove the ` :: `")
    said, separator, command = f" {text}".rpartition(" :: ")
    if not separator:
        said, command = text, ""
    command = command.strip()
    # Written as code, as one does in markdown. To `sh` these quotes would mean: run what the command printed.
    if len(command) > 2 and command[0] == command[-1] == "`" and "`" not in command[1:-1]:
        command = command[1:-1].strip()
    return (Criterion(said.strip() or command, command or None, mark["box"] != b" ", line),)


def _body(written: bytes, title: str) -> str:
    """The text for a reader: without the heading that is the title, without blank lines around it, LF line ends."""
    start = _first_line_with_text(written, 0)
    end = written.find(b"\n", start) + 1 or len(written)
    mark = _MARK.fullmatch(b"\n" + written[start:end].rstrip(b"\n")) if title else None
    # A title that was shortened or cleaned stays in the body too, as it was written.
    if mark and mark["heading"] == b"#" and title.encode() in mark["rest"] and _heading(mark["rest"]) == title:
        start = _first_line_with_text(written, end)
    return written[start:].rstrip().replace(b"\r\n", b"\n").decode("utf-8")


def _first_line_with_text(data: bytes, at: int) -> int:
    """Where the first line begins, from `at` on, that is not blank; its indentation belongs to it."""
    blank = re.compile(rb"\s*").match(data, at)
    return max(at, data.rfind(b"\n", 0, blank.end()) + 1) if blank else at


# Writing


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"})


def _scalar(text: str) -> str:
    """`text` as YAML reads it back; what no front matter may hold is refused afterwards, by reading it."""
    return text if taskhead.is_plain(text) else f'"{text.translate(_ESCAPED)}"'


def _check_composed(data: bytes, title: str, criteria: Sequence[str]) -> None:
    """What `compose` wrote must say what it was given."""
    if not title:
        raise Invalid("a task needs a title", hint="say in a few words what is to be done")
    if len(title) > MAX_TITLE:
        raise Invalid(f"a title has at most {MAX_TITLE} characters", hint="put the rest into the body")
    if sections.spans(data):
        raise Invalid("the text contains a section of octopoid's own", hint="remove the lines `<!-- octopoid:… -->`")
    try:
        task = parse(data, Path("0" * MAX_ID))  # nothing can depend on itself here
    except Invalid as error:
        raise Invalid("; ".join(one.message for one in error.problems), hint=error.hint) from None
    if task.title != title:
        raise Invalid(f"{title!r} cannot be a title", hint="write one line of text, not the heading of a list")
    lines = data.decode().split("\n")
    found = [lines[one.line - 1].removesuffix("\r") for one in task.criteria[-len(criteria) :]]
    if criteria and found != [f"- [ ] {one.strip()}" for one in criteria]:
        raise Invalid(
            "the acceptance criteria would not be read as they are meant",
            hint="each is one line of text; the body leaves no code block or comment open",
        )
