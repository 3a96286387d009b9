"""Tasks that agents and flows ask for: what is wrong with them, and their files. Pure (DESIGN §3, LESSONS 8).

What an agent wrote is not trusted. Its text becomes text of a task file and nothing else: no key of the front matter,
no section of octopoid's own, and no command unless a person approved it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from octopoid import taskfile
from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Subtask, Task
from octopoid.results import clean
from octopoid.settings import Follow, Limits
from octopoid.taskhead import CONTROLS

PROPOSAL = "proposal"
"""The label of a task that an agent proposed: it waits, parked, for a person."""
AFTER = "after"
"""The label of a task that was made because another one landed."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LABEL = 60
_LONE = r"(?<!\S)::(?!\S)"
_FORGED = r"<!--(?=\s*octopoid:)"
_PROBE = "the last line of the file"
_ANY = Path("example.md")


class Made(NamedTuple):
    """A task to be made: its id and the bytes of its file. A `proposal` is parked until a person starts it."""

    id: str
    text: bytes
    proposal: bool


# What is wrong


def check(
    subtasks: Sequence[Subtask],
    *,
    roles: Collection[str],
    flows: Collection[str],
    depth: int,
    limits: Limits,
    ids: Collection[str],
) -> tuple[str, ...]:
    """A sentence about each thing that is wrong with `subtasks`; () when they can be made.

    `depth`: how many parents their own parent has. `ids`: every task there is. A word of `depends_on` that is both a
    key and an id means the sibling.
    """
    return (
        *_counts(len(subtasks), depth, limits),
        *(wrong for one in subtasks for wrong in _names(one, roles, flows)),
        *_edges(subtasks, ids),
    )


def mend(
    subtasks: Sequence[Subtask], *, roles: Collection[str], flows: Collection[str], ids: Collection[str]
) -> tuple[Subtask, ...]:
    """`subtasks` without what `check` would refuse in them: for discovered work, which must not fail what was done.

    A role, flow or dependency that is not known is left out, and so is a dependency on a sibling that comes later.
    """
    kept: dict[str, Subtask] = {}
    for one in subtasks:
        key = one.key
        while key in kept:
            key += "'"
        kept[key] = one._replace(
            key=key,
            role=one.role if one.role in roles else "",
            flow=one.flow if one.flow in flows else "",
            depends_on=tuple(word for word in one.depends_on if word in kept or word in ids),
        )
    return tuple(kept.values())


def _counts(count: int, depth: int, limits: Limits) -> Iterator[str]:
    if not count:
        yield "there are no subtasks: a breakdown has at least one"
    if count > limits.subtasks:
        yield f"{count} subtasks are too many: at most {limits.subtasks} (`limits: subtasks`)"
    if depth + 1 > limits.depth:
        yield f"subtasks of this task would be {depth + 1} deep: at most {limits.depth} (`limits: depth`)"


def _names(one: Subtask, roles: Collection[str], flows: Collection[str]) -> Iterator[str]:
    if not one.title.strip():
        yield f"subtask `{one.key}` has no title"
    for kind, word, known in (("role", one.role, roles), ("flow", one.flow, flows)):
        if word and word not in known:
            yield _told(f"subtask `{one.key}`: there is no {kind} `{word}`", nearest(word, known))


def _edges(subtasks: Sequence[Subtask], ids: Collection[str]) -> Iterator[str]:
    """What is wrong with keys and dependencies: twice, unknown, on itself, in a circle."""
    keys = [one.key for one in subtasks]
    for key in dict.fromkeys(keys):
        if keys.count(key) > 1:
            yield f"{keys.count(key)} subtasks have the key `{key}`: each needs one of its own"
    for one in subtasks:
        for word in dict.fromkeys(one.depends_on):
            if word == one.key:
                yield f"subtask `{one.key}` depends on itself"
            elif word not in keys and word not in ids:
                hint = nearest(word, keys)
                yield _told(f"subtask `{one.key}` depends on `{word}`, which is neither a key nor a task", hint)
    graph = {one.key: [word for word in one.depends_on if word in keys and word != one.key] for one in subtasks}
    while circle := _circle(graph):
        yield f"subtasks wait for each other in a circle: {' → '.join(f'`{key}`' for key in circle)}"
        graph[circle[0]] = []  # the others, if there are any


def _circle(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys of a circle, each waiting for the next, the first again at the end; [] where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib names what comes first first
    return []


def _told(message: str, hint: str) -> str:
    return f"{message} ({hint})" if hint else message


# The files


def make(
    parent: Task, entry: int, subtasks: Sequence[Subtask], *, commands: bool, proposal: bool, origin: str
) -> tuple[Made, ...]:
    """The files of `subtasks`, in which `check` found nothing wrong (or which went through `mend`).

    Their ids come from the parent, the number of the entry that asked for them, and their keys: the same again after a
    crash. Without `commands` their executable criteria become plain ones that show the command; a body never brings
    any. `origin` is the last line of the body of a proposal. Raises Invalid for a role, flow or dependency that no task
    file can hold.
    """
    ids = _ids((parent.id, str(entry), *([PROPOSAL] if proposal else [])), subtasks)
    end = origin if proposal else f"Part of `{parent.id}`: {parent.title}."
    return tuple(
        Made(ids[one.key], _compose(_harmless(one, commands), end, parent, ids, proposal), proposal) for one in subtasks
    )


def follow(
    parent_id: str,
    title: str,
    follows: Sequence[Follow],
    *,
    base: str | None = None,
    project: str | None = None,
) -> tuple[Made, ...]:
    """The files of the tasks that are made when the task `parent_id` has landed (`after:` of its flow).

    `base` and `project` are those of the task that landed. Raises Invalid for what no task file can hold.
    """
    made = []
    for number, one in enumerate(follows):
        name = _title(_filled(one.title, parent_id, title))
        data = taskfile.compose(
            title=name,
            body=_followed(one, parent_id, title),
            role=one.role or None,
            flow=one.flow or "default",
            depends_on=(parent_id,),
            base=base,
            project=project,
            labels=(AFTER,),
        )
        # Not the title: a person may edit that between two tries to land, and this must be the same task.
        known = _filled(one.title.replace("{title}", "{id}"), parent_id, "")
        made.append(Made(_id(known, parent_id, AFTER, str(number)), data, proposal=False))
    return tuple(made)


def _ids(origin: tuple[str, ...], subtasks: Sequence[Subtask]) -> dict[str, str]:
    """Key → id."""
    found: dict[str, str] = {}
    for one in subtasks:
        salt, made = 0, ""
        while not made or made in found.values():
            made, salt = _id(one.title, *origin, one.key, *([str(salt)] if salt else [])), salt + 1
        found[one.key] = made
    return found


def _id(title: str, *origin: str) -> str:
    """`<slug>-<4>`: the four characters are a hash of where the task comes from."""
    number = int.from_bytes(hashlib.sha256("\0".join(origin).encode("utf-8", "replace")).digest(), "big")
    mark = ""
    for _ in range(4):
        number, digit = divmod(number, len(_DIGITS))
        mark += _DIGITS[digit]
    return f"{taskfile.slug(title)}-{mark}"


def _compose(one: Subtask, end: str, parent: Task, ids: Mapping[str, str], proposal: bool) -> bytes:
    """The file of a harmless subtask. A body that would be more than text is quoted, which makes it text."""
    labels = (*one.labels, PROPOSAL) if proposal and PROPOSAL not in one.labels else one.labels
    waits = dict.fromkeys(ids.get(word, word) for word in one.depends_on)
    body = one.body if _is_text(one) else "\n".join(f"> {line}".rstrip() for line in one.body.split("\n"))
    return taskfile.compose(
        title=one.title,
        body="\n\n".join(part for part in (body, _line(end)) if part),
        priority=one.priority,
        role=one.role or None,
        flow=one.flow or "default",
        depends_on=tuple(waits),
        base=parent.base,
        labels=labels,
        project=parent.project,
        parent=None if proposal else parent.id,
        criteria=one.criteria,
    )


def _is_text(one: Subtask) -> bool:
    """Whether the body leaves everything below it as it is, and brings no command.

    Not even where commands were approved: whoever does that reads the criteria, not every line of every body.
    """
    try:
        data = taskfile.compose(title=one.title, body=one.body, criteria=(*one.criteria, _PROBE))
        found = taskfile.parse(data, _ANY).criteria
    except Invalid:
        return False
    return not any(criterion.command for criterion in found[: -len(one.criteria) - 1])


def _harmless(one: Subtask, commands: bool) -> Subtask:
    """The same subtask in words that can stand in a task file."""
    return one._replace(
        title=_title(one.title),
        body=re.sub(_FORGED, "&lt;!--", re.sub(CONTROLS, "\ufffd", clean(one.body))).strip(),
        labels=tuple(dict.fromkeys(filter(None, (_line(label)[:_LABEL].strip() for label in one.labels)))),
        criteria=tuple(filter(None, (_criterion(text, commands) for text in one.criteria))),
    )


def _criterion(text: str, commands: bool) -> str:
    """One line behind `- [ ]`; where commands are not allowed none is left."""
    text = re.sub(CONTROLS, " ", clean(text)).replace("\n", " ").strip()  # blanks inside a command are its own
    said, separator, command = f" {text}".rpartition(" :: ")
    said, command = (said.strip(), command.strip()) if separator else (text, "")
    if commands and command and not re.search(_LONE, command):
        return f"{said} :: {command}" if said else f":: {command}"
    said = _plain(said)
    if not command:
        return said
    bare = command.strip("`").strip() if command.count("`") == 2 and command[0] == command[-1] == "`" else command
    ticks = "``" if "`" in bare else "`"
    shown = f"(proposed check: {ticks}{bare}{ticks})"
    return f"{said} {shown}" if said else shown


def _plain(text: str) -> str:
    """`text` in which nothing separates a command."""
    return " ".join(re.sub(_LONE, "–", text).split())


def _title(text: str) -> str:
    title = _line(text)
    if title.rstrip("# ").rstrip(":").lower().split() == ["acceptance", "criteria"]:
        title = f"Task: {title}"
    return title[: taskfile.MAX_TITLE].rstrip() or "Task"


def _line(text: str) -> str:
    """`text` on one line, without control characters."""
    return " ".join(re.sub(CONTROLS, " ", clean(text)).split())


def _filled(text: str, parent_id: str, title: str) -> str:
    """`text` with `{id}` and `{title}` filled in, in one pass: a title that contains `{id}` keeps it."""
    words = {"{id}": parent_id, "{title}": _plain(_line(title))}
    return re.sub(r"\{(?:id|title)\}", lambda found: words[found[0]], text)


def _followed(one: Follow, parent_id: str, title: str) -> str:
    """The body of a task that follows. A title is never part of a command (DESIGN §5): there the id stands instead."""
    body = _filled(one.body, parent_id, title)
    if _commands(body) != _commands(_filled(one.body, parent_id, "a title")):
        body = _filled(one.body, parent_id, parent_id)
    said = f"Follows `{parent_id}`: {_line(title)}."
    return "\n\n".join(part for part in (body.strip(), said) if part)


def _commands(body: str) -> list[str | None]:
    try:
        return [one.command for one in taskfile.parse(f"# Title\n\n{body}".encode(), _ANY).criteria]
    except Invalid:
        return []
