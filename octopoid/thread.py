"""All that was said about one task, in order: read from its file, its entries and what its agents left. And `say`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, hearing, journal, regular, results, steer, stopping, store, taskfile, telling
from octopoid.errors import Conflict, Invalid, NotFound, UsageError
from octopoid.layout import Layout
from octopoid.model import Choice, Entry, Finding, Opening, Outcome, Result, Subtask, Task
from octopoid.states import State

KINDS = (
    "task",
    "prompt",
    "summary",
    "question",
    "answer",
    "feedback",
    "verdict",
    "handover",
    "decision",
    "say",
    "block",
    "landing",
    "move",
    "note",
)
MAX_SAID = 64 << 10
"""Characters of one message of a person."""

_OVER = (State.DONE, State.ARCHIVED, State.CANCELLED)


class Post(NamedTuple):
    """One thing that was said. `at`: seconds since the epoch. `entry`: its number, 0 for the task itself.

    `kind` is one of KINDS. `who`: a role, `checks`, `scheduler`, `person`. `refs`: files, named from the root.
    """

    at: float
    entry: int
    kind: str
    who: str
    text: str
    refs: tuple[str, ...] = ()


class Decided(NamedTuple):
    """A decision, and who took it when."""

    at: float
    task: str
    entry: int
    who: str
    choice: Choice


class _Told(NamedTuple):
    """An entry with what its agent said, while posts are made of it. `full`: prompts with their text."""

    layout: Layout
    task: str
    entry: Entry
    said: Result
    trouble: str
    full: bool

    def file(self, *names: str) -> str:
        return self.layout.short(self.layout.entry(self.task, self.entry.number).joinpath(*names))

    def post(self, kind: str, text: str, *, late: bool = True, who: str = "", refs: tuple[str, ...] = ()) -> Post:
        """A post at the end of the entry, or at its beginning if it is not `late`."""
        outcome, opening = self.entry.outcome, self.entry.opening
        at = outcome.ended if late and outcome else opening.at
        return Post(at, self.entry.number, kind, who or _who(self.entry), text, refs)


def thread(layout: Layout, task: str, *, full: bool = False) -> tuple[Post, ...]:
    """Everything that was said about `task`, in the order of time; with `full` the texts of the prompts too.

    Reads the task in whatever folder it is. Raises NotFound; Invalid when its evidence cannot be read.
    """
    found = store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    posts = [post for entry in attempts.read(layout, task) for post in _posts(_read(layout, task, entry, full))]
    posts.sort(key=lambda post: post.at)  # what ran side by side is told as it happened
    posts = [post for number, post in enumerate(posts) if post.kind != "feedback" or _is_news(post, posts[:number])]
    return (_task(layout, task, found[1], posts[0].at if posts else None), *posts)


def decisions(layout: Layout, task: str) -> tuple[Decided, ...]:
    """The decisions that agents took while they worked on `task`, the oldest first. Raises Invalid."""
    folder = layout.entries(task)
    made: list[Decided] = []
    for number in sorted(int(name) for name in store.durable_names(folder) if name.isdecimal()):
        try:
            said = results.load(regular.read(layout.entry(task, number) / results.SAID))
        except FileNotFoundError:
            continue
        if said.decisions:
            entry = attempts.read_one(layout, task, number)
            at = entry.outcome.ended if entry.outcome else entry.opening.at
            made += (Decided(at, task, number, _who(entry), choice) for choice in said.decisions)
    return tuple(made)


def say(layout: Layout, task: str, text: str, now: float) -> telling.Said:
    """A person's word for the next attempt of `task`, and for who is at work on it now, where that can be.

    Raises NotFound, UsageError for no text or too much of it, Conflict for a task that is over or inside an agent.
    """
    stopping.refuse_agents(layout)
    found = store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    state, path = found
    if state in _OVER:
        raise Conflict(f"{task} is in {state.value}: no attempt will read it", _way_back(layout, task, state, path))
    words = results.clean(text).strip()
    if not words:
        raise UsageError("there is nothing to say", f"octopoid say {task} -m TEXT")
    if len(words) > MAX_SAID:
        raise UsageError(f"{len(words)} characters; a message has at most {MAX_SAID}", "name a file instead")
    first = words.splitlines()[0][:200]
    with store.one_at_a_time(layout):
        begun = attempts.begin(layout, task, Opening("say", now, by="person", text=words))
        journal.append(layout, journal.Event(now, "say", task, by="person", entry=begun.number, detail=first))
    steer.wake(layout)
    return telling.pass_on(layout, task, begun.number, words)


def _way_back(layout: Layout, task: str, state: State, path: Path) -> str:
    if state is State.DONE:
        return f"octopoid reopen {task} -m TEXT works on it again, with your word"
    target = layout.task_file(State.INCOMING, task)
    return f"to work on it again: mv -n {shlex.quote(str(path))} {shlex.quote(str(target))}"


# The task and its entries


def _task(layout: Layout, task: str, path: Path, first: float | None) -> Post:
    """The request itself. It is older than everything that was done about it, whenever somebody saved its file."""
    try:
        written = path.stat().st_mtime
        asked = taskfile.parse(store.read(path), path.with_name(f"{task}.md"))
    except FileNotFoundError:  # on its way to another folder
        written, asked = first or 0.0, Task(task, task)
    except Invalid as error:
        return Post(first or 0.0, 0, "task", "person", str(error.problems[0]) if error.problems else error.message)
    at = written if first is None else min(written, first)
    text = "\n\n".join(part for part in (asked.title, asked.body) if part)
    return Post(at, 0, "task", asked.parent or "person", text, (layout.short(path),))


def _read(layout: Layout, task: str, entry: Entry, full: bool) -> _Told:
    try:
        said = results.load(regular.read(layout.entry(task, entry.number) / results.SAID))
        return _Told(layout, task, entry, said, "", full)
    except FileNotFoundError:
        return _Told(layout, task, entry, Result(), "", full)
    except (Invalid, OSError) as error:
        trouble = f"what the agent said cannot be read: {error}"
        return _Told(layout, task, entry, Result(), trouble, full)


def _who(entry: Entry) -> str:
    opening = entry.opening
    return opening.role or opening.gate or opening.agent or opening.by


def _posts(told: _Told) -> Iterator[Post]:
    if told.trouble:
        yield told.post("note", told.trouble)
    for number, at in hearing.heard(str(told.layout.entry(told.task, told.entry.number))):
        yield told.post("note", f"heard what was said in {number:03d}")._replace(at=at)
    yield from _ENTRIES.get(told.entry.opening.kind, _person)(told)


def _attempt(told: _Told) -> Iterator[Post]:
    yield from _prompt(told)
    outcome, said = told.entry.outcome, told.said
    if outcome is None:
        return
    yield from _own_words(told)
    refs = tuple(told.file("artifacts", name) for name in outcome.artifacts)
    summary = said.summary or outcome.summary
    if outcome.reason == "handoff":
        to = f"to {outcome.next_role or said.handoff_to}"
        yield told.post("handover", "\n".join(filter(None, (to, summary, said.feedback))), refs=refs)
    elif outcome.class_ == "ok":
        yield told.post("summary", summary or outcome.detail or "done", refs=refs)
        yield from _beside(told, outcome.detail, summary)
        if said.feedback:
            yield told.post("note", said.feedback)
    else:
        yield from _came_to_nothing(told, outcome, summary, refs)
    yield from (told.post("question", one) for one in said.questions or outcome.questions)
    for what, made, asked in (
        ("subtasks", outcome.children, said.subtasks),
        ("proposals", outcome.proposals, said.discovered),
    ):
        if made:
            yield told.post("note", "\n".join((f"{what}: {', '.join(made)}", *map(_subtask, asked))))
    if outcome.approval:
        yield told.post("note", "waits for a person's yes", who="scheduler")
    yield from _blocked(told)


def _subtask(one: Subtask) -> str:
    """What a person who approves it wants to see: who does it, after what, and every criterion with its command."""
    facts = (f"`{one.key}`", one.role, one.flow, f"after {', '.join(one.depends_on)}" if one.depends_on else "")
    criteria = (f"  - [ ] {text}" for text in one.criteria)
    return "\n".join((f"- {one.title} ({', '.join(filter(None, facts))})", *criteria))


def _came_to_nothing(told: _Told, outcome: Outcome, summary: str, refs: tuple[str, ...]) -> Iterator[Post]:
    """An attempt that was not a success: its own word, then what the next one is told."""
    if summary or refs:
        yield told.post("summary", summary or "left documents", refs=refs)
    if outcome.reason == "question":
        return
    text = outcome.feedback or outcome.detail
    why = f"{outcome.reason}: {outcome.detail}".strip(": ")
    if outcome.charged:
        more = f"\n\n{text}" if text != outcome.detail else ""
        yield told.post("feedback", f"{why}{more}", who="scheduler")
    elif why or not summary:
        yield told.post("note", why or "ended", who="scheduler")


def _gate(told: _Told) -> Iterator[Post]:
    outcome, said = told.entry.outcome, told.said
    yield from _prompt(told)
    if outcome is None:
        return
    yield from _own_words(told)
    words = said.feedback or said.summary or outcome.feedback or outcome.summary or outcome.detail
    if outcome.verdict and (told.entry.started or not outcome.verb):
        yield told.post("verdict", "\n".join(filter(None, (outcome.verdict, words, *_findings(said.findings, words)))))
        yield from _beside(told, outcome.detail if told.entry.opening.role else "", words)
    if outcome.verb and outcome.verdict:  # what goes back: the word of all gates that were asked together
        yield told.post("feedback", outcome.feedback or outcome.detail, who="scheduler")
    if not outcome.verdict:
        yield told.post("note", f"no verdict: {outcome.reason}: {outcome.detail}".rstrip(": "), who="scheduler")
    yield from _blocked(told)


def _prompt(told: _Told) -> Iterator[Post]:
    opening, path = told.entry.opening, told.layout.entry(told.task, told.entry.number) / "prompt.md"
    if not told.entry.started or not opening.role:  # commands have none
        return
    if told.full:
        try:
            text = regular.read(path).decode("utf-8", "replace")
        except OSError as error:
            text = f"the prompt cannot be read: {error.strerror}"
    else:
        number = f"attempt {opening.attempt}" if opening.attempt else ""
        stage = f"stage {opening.stage}" if opening.stage else ""
        agent = f"agent {opening.agent}" if opening.agent else ""
        text = ", ".join(filter(None, (number, stage, agent, "in the session before" if opening.session else "")))
    yield told.post("prompt", text, late=False, refs=(told.file("prompt.md"),))


def _own_words(told: _Told) -> Iterator[Post]:
    for one in told.said.decisions:
        yield told.post("decision", choice_text(one))


def choice_text(one: Choice) -> str:
    """A decision as people read it."""
    others = f"variants: {'; '.join(one.variants)}" if one.variants else ""
    return "\n".join(filter(None, (one.problem, f"chosen: {one.chosen}", others, f"why: {one.why}" if one.why else "")))


def _findings(findings: tuple[Finding, ...], said: str) -> Iterator[str]:
    """The remarks that the text does not contain already."""
    for one in findings:
        place = f"{one.file}:{one.line}" if one.line else one.file
        if one.message not in said:
            yield "- " + ": ".join(filter(None, (place, one.severity, one.message)))


def _beside(told: _Told, detail: str, said: str) -> Iterator[Post]:
    """What octopoid adds to an agent's own words: that it changed what it may not, for example."""
    known = (told.said.summary, said, (said.splitlines() or [""])[0][:300])
    rest = detail
    for words in sorted(filter(None, known), key=len, reverse=True):
        rest = rest.removeprefix(words)
    if rest.strip() and rest != detail:
        yield told.post("note", rest.strip(), who="scheduler")


def _is_news(feedback: Post, before: Sequence[Post]) -> bool:
    """Does it say more than one of the verdicts before it?"""
    said = _words(feedback.text)
    return not any(
        one.kind == "verdict" and _words(one.text).startswith("reject") and said in _words(one.text) for one in before
    )


def _words(text: str) -> str:
    return " ".join(text.split())


def _landing(told: _Told) -> Iterator[Post]:
    outcome, opening = told.entry.outcome, told.entry.opening
    if outcome is None:
        yield told.post("landing", told.entry.waits or f"landing on {opening.base}", who="scheduler")
    elif outcome.verb == "land" and outcome.class_ in ("", "ok"):
        sha = opening.result_sha[:12]
        yield told.post("landing", outcome.detail or f"landed on {opening.base} as {sha}", who="scheduler")
    else:
        yield told.post("landing", f"{outcome.reason}: {outcome.detail}".strip(": ") or "ended", who="scheduler")


def _blocked(told: _Told) -> Iterator[Post]:
    """That the task now waits for a person. Questions say so themselves."""
    outcome = told.entry.outcome
    if outcome and outcome.verb == "block" and outcome.reason != "question":
        yield told.post("block", f"{outcome.reason}: {outcome.detail}", who="scheduler")


def _verdict_of_a_person(word: str) -> Callable[[_Told], Iterator[Post]]:
    def posts(told: _Told) -> Iterator[Post]:
        yield told.post("verdict", "\n".join(filter(None, (word, told.entry.opening.text))), who=told.entry.opening.by)

    return posts


def _person(told: _Told) -> Iterator[Post]:
    """What a person did or said: answer, say, and every move."""
    opening = told.entry.opening
    kind = opening.kind if opening.kind in ("answer", "say") else "move"
    text = opening.text or (told.entry.outcome.detail if told.entry.outcome else "")
    moved = _MOVES.get(opening.kind, opening.kind).format(to=opening.to)
    yield told.post(kind, text if kind != "move" else "\n".join(filter(None, (moved, text))), who=opening.by)


_MOVES: Mapping[str, str] = {
    "release": "try again, with a new budget",
    "reopen": "work on it again",
    "cancel": "given up",
    "move": "moved by hand into {to}",
    "attach": "at work in its worktree (octopoid attach)",
    "undo": "taken back:",
}
_ENTRIES: Mapping[str, Callable[[_Told], Iterator[Post]]] = {
    "attempt": _attempt,
    "gate": _gate,
    "landing": _landing,
    "finish": _landing,
    "block": _blocked,
    "approve": _verdict_of_a_person("accept"),
    "reject": _verdict_of_a_person("reject"),
}
