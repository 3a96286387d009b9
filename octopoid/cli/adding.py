"""Adding a task: from what a person gave to a file in `incoming`. Without typer, see `speak`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from octopoid import lifecycle, locks, store, taskfile
from octopoid.cli import speak
from octopoid.cli.app import late
from octopoid.errors import Conflict, Invalid, OctopoidError, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.look import Look
from octopoid.model import Item, Ledger, Problem, Task
from octopoid.states import State

STDIN_NAME = Path("standard input")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_TEMPLATE = b"# \n\n<!-- What is to be done? The first heading is the title. -->\n\n## Acceptance criteria\n- [ ] \n"


class Wish(NamedTuple):
    """The options of the command, named as the keys of a task file; None where one was not given."""

    priority: int | None = None
    role: str | None = None
    flow: str | None = None
    depends_on: tuple[str, ...] = ()
    base: str | None = None
    labels: tuple[str, ...] = ()
    project: str | None = None


class Source(NamedTuple):
    """A text that a person gave, and the name to call it in messages."""

    data: bytes
    path: Path


def quick(title: str) -> None:
    """`octopoid enqueue TITLE` without options: as the command does it, without the time that its parser takes."""
    layout = speak.layout()
    tell(layout, add(layout, *compose(title, None, Wish(), edit=False))[0])


def tell(layout: Layout, task: Task) -> None:
    """The id on stdout, and what to do next."""
    speak.out(task.id)
    works = "the scheduler takes it from here" if locks.is_held(layout.scheduler_lock) else "octopoid run works on it"
    speak.next_step(f"{works}; octopoid why {task.id}")


def compose(title: str, source: Source | None, wish: Wish, edit: bool) -> tuple[bytes, Path]:
    """The bytes of the task, and the name to call them in messages. Not checked yet where they are a person's own."""
    if source is None and not title:
        return _TEMPLATE if wish == Wish() else _with_front_matter(_TEMPLATE, wish), Path("the draft")
    if title:
        return _below_title(title, source, wish), source.path if source else Path("the task")
    if source is None or (not source.data.strip() and not edit):
        raise Invalid(f"{source.path if source else 'the text'} is empty", hint="a task needs at least a title")
    if wish == Wish():
        return source.data, source.path
    if _has_front_matter(source.data):
        raise UsageError(f"{source.path} has front matter of its own", "write there what the options say")
    return _with_front_matter(source.data, wish), source.path


def filled(layout: Layout, template: str, title: str, source: Source | None, wish: Wish) -> tuple[bytes, Path]:
    """A template with the title, the text and the options that a person gave. Raises NotFound, Invalid, UsageError."""
    if source and _has_front_matter(source.data):
        what = f"{source.path} has front matter of its own, and so has a template"
        raise UsageError(what, f"leave the template out: octopoid enqueue {_source(source.path)}")
    templating = late("templating")
    made: bytes = templating.render(layout, template, title, _body(source), templating.Options(**wish._asdict()))
    return made, Path(f"the template {template}")


def _below_title(title: str, source: Source | None, wish: Wish) -> bytes:
    if source and _has_front_matter(source.data):
        what = f"{source.path} is a task file with front matter"
        raise UsageError(what, f"leave the title out: octopoid enqueue {_source(source.path)}")
    return _composed(title, _body(source), wish)


def _body(source: Source | None) -> str:
    try:
        body = source.data.decode("utf-8-sig") if source else ""
    except UnicodeDecodeError as error:
        raise Invalid(f"{source.path if source else ''}: not UTF-8 ({error.reason})", hint="save it as UTF-8") from None
    if "\0" in body:
        raise Invalid("the text has a NUL byte", hint="a task is plain text")
    return body


def _composed(title: str, body: str, wish: Wish) -> bytes:
    return taskfile.compose(
        title=title,
        body=body,
        priority=2 if wish.priority is None else wish.priority,
        role=wish.role,
        flow=wish.flow or "default",
        depends_on=wish.depends_on,
        base=wish.base,
        labels=wish.labels,
        project=wish.project,
    )


def _has_front_matter(data: bytes) -> bool:
    return data.removeprefix(b"\xef\xbb\xbf").startswith((b"---\n", b"---\r\n"))


def _with_front_matter(text: bytes, wish: Wish) -> bytes:
    """The options as front matter above a text that has none, which stays as it is, its BOM in front."""
    bare = text.removeprefix(b"\xef\xbb\xbf")
    made = _composed("x", "\r\n" if b"\r\n" in bare else "", wish)
    head = made[: made.rindex(b"# x")].replace(b"\r\n", b"\n")
    return text[: len(text) - len(bare)] + (head.replace(b"\n", b"\r\n") if b"\r\n" in bare else head) + bare


def edited(layout: Layout, data: bytes, title: str) -> tuple[bytes, Path]:
    """What the person made of the draft. Raises OctopoidError when nothing is left of it."""
    editor = late("editor")
    draft: Path = editor.write_draft(layout, taskfile.slug(title) if title else "new", data)
    try:
        after: bytes = editor.edit(draft, os.environ)
    except OctopoidError as error:
        if error.hint.startswith("your text is in"):
            error.hint = f"your text is kept: octopoid enqueue {_source(draft)}"
        raise
    if not after.strip() or after == _TEMPLATE:
        draft.unlink()
        raise OctopoidError("nothing was written, so nothing was added")
    return after, draft


# --- adding it ---


def add(layout: Layout, data: bytes, name: Path) -> tuple[Task, Path]:
    """Check it as the queue will read it, then put it there under a new id."""
    task = _parse(data, name)
    missing = [one for one in task.depends_on if store.find(layout, one) is None]
    if missing:
        hint = nearest(missing[0], store.every_id(layout)) or "remove it"
        raise Invalid(f"{name}: depends on `{missing[0]}`, which does not exist", hint=hint)
    slug = taskfile.slug(task.title)
    for _ in range(20):
        new = f"{slug}-{_random(4)}"
        try:
            path = _enqueue(layout, new, data)
        except Conflict:
            continue  # somebody has that id
        if name.parent == layout.drafts:
            name.unlink(missing_ok=True)
        return task._replace(id=new), path
    raise Conflict(f"no free id that begins with {slug} was found", "try again, or with another title")


def _random(length: int) -> str:
    """Characters from the kernel's randomness (`secrets` would cost 5 ms), each of the 36 as likely as any other."""
    found = ""
    while len(found) < length:
        found += "".join(_ALPHABET[byte % 36] for byte in os.urandom(length) if byte < 252)
    return found[:length]


def _enqueue(layout: Layout, task: str, data: bytes) -> Path:
    try:
        return lifecycle.enqueue(layout, task, data, speak.now())
    except FileNotFoundError:  # a fresh clone has the policy and no queue yet
        late("setup").make_folders(layout)
        return lifecycle.enqueue(layout, task, data, speak.now())


def _parse(data: bytes, name: Path) -> Task:
    """The task; what is wrong is said about the file that the person knows. Without a heading its name is the title."""
    stem = taskfile.slug(_first_line(data) if name == STDIN_NAME else name.stem)
    try:
        return taskfile.parse(data, Path(f"{stem}.md"))
    except Invalid as error:
        problems = tuple(Problem(name, *one[1:]) for one in error.problems)
        again = f"octopoid enqueue {_source(name)}"
        raise Invalid(f"{name} is not a task", problems, f"mend it, then: {again}") from None


def _first_line(data: bytes) -> str:
    return next((line for line in data.decode("utf-8", "replace").splitlines() if line.strip()), "")[:200]


def _source(name: Path) -> str:
    """The argument that gives this text again."""
    return "-" if name == STDIN_NAME else f"-f '{name}'" if " " in str(name) else f"-f {name}"


def plain(layout: Layout, task: Task, path: Path) -> dict[str, object]:
    """The `task` of DESIGN §10, as `show --json` would say it now."""
    views = late("views")
    item = Item(task.id, State.INCOMING, path, path.stat().st_mtime, task, None, Ledger())
    found, base = Look((item,), (), store.every_id(layout)), late("cli.reading").base(layout)
    shown: dict[str, object] = views.plain(views.task(item, found, speak.now(), base=base))
    return shown
