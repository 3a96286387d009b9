"""Templates: task files to begin from. The user's own in `.octopoid/templates`, else those that come with octopoid.

A template is an ordinary task file. What is filled in changes only the lines that it concerns; everything else is kept
byte for byte, and the result is read back to see that it says what was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import store, taskfile, taskhead
from octopoid.errors import Invalid, NotFound, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.model import Task

BUILT_IN = Path(__file__).parent / "templates"

MAX_TITLE = taskfile.MAX_TITLE

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BOM = b"\xef\xbb\xbf"
_HEAD = re.compile(rb"(?P<open>---[ \t]*\r?\n)(?P<keys>(?:[^\n]*\n)*?)(?P<close>---[ \t]*(?:\r?\n|\Z))")
_HEADING = re.compile(rb"^ {0,3}#(?:[ \t][^\n]*|\r?)$", re.MULTILINE)
_LISTS = ("depends_on", "labels")
_PROBE = "0 1 2 3 4 5 6 7 8 9"
"""A title that no template has."""


class Options(NamedTuple):
    """What the front matter is to say; None or nothing: as the template says.

    The values of lists are added to those of the template, all others replace its own.
    """

    priority: int | None = None
    role: str | None = None
    flow: str | None = None
    base: str | None = None
    project: str | None = None
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class Template(NamedTuple):
    """A template as it is on disk, and the task that it is."""

    path: Path
    data: bytes
    task: Task


def names(layout: Layout) -> tuple[str, ...]:
    """Every template there is."""
    found = (*store.durable_names(layout.templates), *store.durable_names(BUILT_IN))
    return tuple(sorted({one[:-3] for one in found if one.endswith(".md") and _NAME.fullmatch(one[:-3])}))


def path_of(layout: Layout, name: str) -> Path:
    """The file of a template: the user's own before the built-in one. Raises NotFound."""
    if _NAME.fullmatch(name):
        for folder in (layout.templates, BUILT_IN):
            path = folder / f"{name}.md"
            if path.is_file():
                return path
    known = names(layout)
    hint = nearest(name, known)
    every = f"templates: {', '.join(known)}; one of your own is a task file, .octopoid/templates/NAME.md"
    raise NotFound(f"there is no template `{name}`", f"{hint}; {every}" if hint.startswith("did") else every)


def load(layout: Layout, name: str) -> Template:
    """The template `name`. Raises NotFound, and Invalid with file and line where it is no valid task."""
    path = path_of(layout, name)
    data = store.read(path)
    return Template(path, data, taskfile.parse(data, path))


def render(
    layout: Layout, name: str, title: str = "", body: str = "", options: Options = Options(), suffix: str = ""
) -> bytes:
    """The task file that the template `name` makes: a new heading, a text below it, other options.

    `title`: "" keeps the template's own. `suffix` is put behind the title. Raises NotFound, Invalid (the template or
    the text is no valid task), UsageError (an option that cannot be put into this template).
    """
    template = load(layout, name)
    wanted = _suffixed(title or template.task.title, suffix) if title or suffix else ""
    data = _filled(template, wanted, _plain_text(body), options)
    try:
        task = taskfile.parse(data, template.path)
    except Invalid as error:
        said = "; ".join(one.message for one in error.problems)
        hint = error.hint or f"keys on lines of their own can be replaced: {template.path}"
        raise Invalid(f"the template `{name}` cannot be filled in that way: {said}", hint=hint) from None
    wrong = _differs(task, template.task, wanted, options)
    if wrong:
        what = f"the template `{name}` says `{wrong}` in a way that cannot be changed from outside"
        raise UsageError(what, f"put it on one line of its front matter: {template.path}")
    return data


def _suffixed(title: str, suffix: str) -> str:
    return f"{title[: MAX_TITLE - len(suffix)].rstrip()}{suffix}" if suffix else title


def _plain_text(body: str) -> str:
    if "\0" in body:
        raise Invalid("the text has a NUL byte", hint="a task is plain text")
    if body.lstrip("\ufeff").startswith(("---\n", "---\r\n")):
        raise UsageError("the text has front matter of its own", "leave it out: the template has one, and options")
    return body.lstrip("\ufeff").strip("\r\n").replace("\r\n", "\n").rstrip()


def _filled(template: Template, title: str, body: str, options: Options) -> bytes:
    data = template.data
    end = "\r\n" if b"\r\n" in data else "\n"
    bom = _BOM if data.startswith(_BOM) else b""
    head = _HEAD.match(data, len(bom))
    below = head.end() if head else len(bom)
    keys = [line for line in (head["keys"] if head else b"").splitlines(keepends=True) if line]
    fresh = _lines(_changed(options, template.task), end)
    text = _text(data[below:], title, template.task.title, body, end)
    if not fresh:
        return data[:below] + text
    mark = f"---{end}".encode()
    opening, closing = (head["open"], head["close"]) if head else (mark, mark)
    return b"".join((bom, opening, *_replaced(keys, fresh), closing, text))


# --- front matter ---


def _changed(options: Options, task: Task) -> Options:
    """The options that the template does not say already, its lists and theirs together."""
    changed = {key: _wanted(task, key, value) for key, value in options._asdict().items()}
    return Options(**{key: value for key, value in changed.items() if value != getattr(task, key)})


def _wanted(task: Task, key: str, option: Any) -> Any:
    """What the result is to say: lists of the template go on with those of the options."""
    own = getattr(task, key)
    if key in _LISTS:
        return tuple(dict.fromkeys((*own, *option)))
    return own if option is None else option


def _lines(options: Options, end: str) -> dict[str, bytes]:
    """A line of front matter for each option, as `taskfile` writes it."""
    given = {key: value for key, value in options._asdict().items() if value not in (None, ())}
    written = taskfile.compose(title="x", **given).decode().splitlines()
    found = {line.partition(":")[0]: line for line in written[1:-2]} if written[0] == "---" else {}
    for key, value in given.items():  # what is the default is not written, but the template may say something else
        found.setdefault(key, f"{key}: {taskhead.PRIORITIES[value] if key == 'priority' else value}")
    return {key: f"{line}{end}".encode() for key, line in found.items()}


def _replaced(keys: list[bytes], fresh: dict[str, bytes]) -> Iterator[bytes]:
    """The lines of a front matter with `fresh` in the place of the same keys, else behind them.

    What is indented below a key, or a list below it, goes with it.
    """
    left, dropping = dict(fresh), False
    for line in keys:
        key = line.partition(b":")[0].decode("utf-8", "replace").strip("\"' \t")
        if key in left and line[:1] not in b" \t#-":
            yield left.pop(key)
            dropping = True
        elif not (dropping and line[:1] in (b" ", b"\t", b"-")):
            yield line
            dropping = False
    yield from left.values()


# --- the text below it ---


def _text(text: bytes, title: str, own: str, body: str, end: str) -> bytes:
    """`text` with `title` as its heading ("": as it is, or `own` where it has none) and `body` below that."""
    start, stop = _heading(text)
    line = taskfile.compose(title=title or own).rstrip(b"\n") if title or start == stop else text[start:stop]
    if not body and start < stop:
        return text[:start] + line + text[stop:]
    inserted, gap = body.replace("\n", end).encode(), end.encode()
    parts = [one for one in (line, inserted, text[stop:].lstrip(b"\r\n")) if one]
    made = text[:start] + (gap * 2).join(parts)
    return made if made.endswith(b"\n") else made + gap


def _heading(text: bytes) -> tuple[int, int]:
    """Where the heading that is the title begins and ends, (0, 0) if there is none.

    `taskfile` decides which of the lines that look like one it is: the one that, changed, changes the title.
    """
    for mark in _HEADING.finditer(text):
        start, stop = mark.start(), mark.start() + len(mark[0].rstrip(b"\r"))
        probe = b"".join((b"---\n---\n", text[:start], b"# ", _PROBE.encode(), text[stop:]))
        if taskfile.parse(probe, Path("probe.md")).title == _PROBE:
            return start, stop
    return 0, 0


def _differs(task: Task, template: Task, title: str, options: Options) -> str:
    """The key of which `task` does not say what it should, or ""."""
    wanted = {key: _wanted(template, key, value) for key, value in options._asdict().items()}
    wanted["title"] = title or task.title
    return next((key for key, value in wanted.items() if getattr(task, key) != value), "")
