"""`octopoid fmt`. Octopoid itself never changes what a person wrote; this does, because a person asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from octopoid import durable, lifecycle, sections, store, taskfile
from octopoid.cli import common
from octopoid.errors import Conflict, NotFound, OctopoidError
from octopoid.layout import Layout
from octopoid.model import Task
from octopoid.states import State

cli = typer.Typer()

_AT_WORK = (State.CLAIMED, State.PROVISIONAL)


@cli.command(epilog=common.examples("octopoid fmt add-dark-mode", "octopoid fmt draft.md", "octopoid fmt --check"))
def fmt(
    words: Annotated[
        list[str], typer.Argument(metavar="[FILE|ID]…", help="Task files. Default: all in incoming and blocked.")
    ] = [],  # noqa: B006 - typer's "none given"
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 1 if something would be.")] = False,
) -> None:
    """Tidy task files: trailing blanks of lines, one blank line below the front matter, one line end at the end.

    Keys, their order, quoting, comments and line ends stay as they are. A file that is not valid is refused, and so is
    one that an agent or a gate works with.
    """
    paths = [_path(word) for word in words] if words else list(_all(common.layout()))
    changed: list[Path] = []

    def tidy(name: str) -> None:
        if _tidy(Path(name), check):
            changed.append(Path(name))
            common.out(name)

    common.each([str(path) for path in paths], tidy)
    if check and changed:
        common.say(f"{len(changed)} of {len(paths)} files would change")
        common.next_step("octopoid fmt")
        raise typer.Exit(1)
    common.say(f"{len(changed)} of {len(paths)} files changed" if changed else f"{len(paths)} files are tidy already")
    common.next_step("octopoid lint")


def tidied(data: bytes) -> bytes:
    """`data` as fmt would have it. Code blocks and octopoid's own sections are left alone."""
    own = sections.spans(data)
    end = own[0].start if own else len(data)
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    lines = data[:end].replace(b"\r\n", b"\n").split(b"\n")
    head = _end_of_head(lines)
    above, below = lines[:head], _trimmed(lines[head:])
    while below and not below[0]:
        below.pop(0)
    while below and not below[-1]:
        below.pop()
    text = [*(line.rstrip(b" \t") for line in above), *([b""] if above and below else []), *below]
    return newline.join([*text, *([b"", b""] if own else [b""])]) + data[end:]


def _end_of_head(lines: list[bytes]) -> int:
    """How many lines the front matter has, with both its `---`."""
    if lines[0].removeprefix(b"\xef\xbb\xbf").rstrip(b" \t") != b"---":
        return 0
    return next((at + 1 for at, line in enumerate(lines[1:], start=1) if line.rstrip(b" \t") == b"---"), 0)


def _trimmed(lines: list[bytes]) -> list[bytes]:
    """Without blanks at the ends of lines, but for the two that mean a line break in markdown, and in code."""
    done, fence = [], b""
    for line in lines:
        mark = line.lstrip(b" ")[:3]
        if mark in (b"```", b"~~~") and fence in (b"", mark):
            fence = b"" if fence else mark
        kept = line if fence or not line.strip() else line.rstrip(b" \t") + (b"  " if line.endswith(b"  ") else b"")
        done.append(kept if fence or line.strip() else b"")
    return done


def _tidy(path: Path, check: bool) -> bool:
    """Whether the file is not tidy; then it is now, unless `check`. Its mtime, which is its age, stays."""
    data = store.read(path)
    before = taskfile.parse(data, path)  # raises Invalid: what cannot be read cannot be tidied
    after = tidied(data)
    if after == data:
        return False
    if _said(taskfile.parse(after, path)) != _said(before):
        raise Conflict(f"{path}: tidying would change what the task says", "tidy it by hand")
    if not check:
        _write(path, after)
    return True


def _said(task: Task) -> Task:
    """What a task says, whatever blanks its lines end with and wherever they stand."""
    criteria = tuple(one._replace(line=0) for one in task.criteria)
    return task._replace(criteria=criteria, body="\n".join(line.rstrip() for line in task.body.splitlines()))


def _write(path: Path, data: bytes) -> None:
    """Replace the content, keep the mtime. A file that a scheduler took meanwhile is not made a second time."""
    facts = path.stat(follow_symlinks=False)
    durable.write(path, data, times=(facts.st_atime_ns, facts.st_mtime_ns))
    layout = _layout()
    if layout is None or not path.absolute().is_relative_to(layout.queue):
        return
    place = store.find(layout, path.stem)
    if place is not None and place[1] != path.absolute():
        path.unlink()
        raise Conflict(f"{path.stem} was taken up meanwhile: it stays as it was", f"octopoid show {path.stem}")


def _all(layout: Layout) -> Iterable[Path]:
    for state in (State.INCOMING, State.BLOCKED):
        yield from (layout.task_file(state, task) for task in sorted(store.ids_in(layout.folder(state))))


def _path(word: str) -> Path:
    """The file that `word` names, by its path or its id. Raises NotFound, Conflict."""
    path, layout = Path(word), _layout()
    if not os.path.lexists(path):
        if layout is None or "/" in word:
            raise NotFound(f"there is no file {word}")
        place = store.find(layout, lifecycle.resolve(layout, word))
        if place is None:
            raise NotFound(f"there is no file and no task {word}", "octopoid list shows the ids")
        path = place[1]
    if layout and Path(os.path.realpath(path.parent)) in [layout.folder(state) for state in _AT_WORK]:
        raise Conflict(f"{path} is being worked on", "it can be tidied when it is back in incoming, or done")
    return path


def _layout() -> Layout | None:
    """A file can be tidied anywhere."""
    try:
        return common.layout()
    except OctopoidError:
        return None
