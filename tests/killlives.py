"""The lives that `kills` ends and takes up again: what agents do, and what a person does when.

Agents and the person decide from what they see, not from how often they were asked: whatever is killed, somebody who
looks again knows what is still to be done.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import Repo, commit, script

from octopoid import attempts, locks
from octopoid.fold import fold
from octopoid.model import Entry, Ledger
from octopoid.states import State

ACTIVE = (State.CLAIMED, State.PROVISIONAL)

AGENT = r"""
set -e
file=$OCTOPOID_TASK_ID.txt prompt=$OCTOPOID_PROMPT_FILE
say() { printf '%s' "$1" > "$OCTOPOID_RESULT_FILE"; }
case $OCTOPOID_ROLE:$OCTOPOID_TASK_ID in
gatekeeper:*)
  if grep -q more "$file"; then say '{"outcome": "accept"}'
  else say '{"outcome": "reject", "feedback": "say more"}'; fi; exit;;
breakdown:*) say "$PARTS"; exit;;
*:ask*) grep -q 'with a spoon' "$prompt" || { say '{"outcome": "question", "questions": ["How?"]}'; exit; };;
*:drop*) echo at it; exec sleep 600;;
esac
echo work > "$file"
grep -q 'say more' "$prompt" && echo more >> "$file"
grep -q 'once again' "$prompt" && echo again >> "$file"
git add -A
git diff --cached --quiet || git commit -q -m Work
"""
PARTS = {
    "outcome": "done",
    "subtasks": [
        {"key": "a", "title": "Part a", "body": "Do a."},
        {"key": "b", "title": "Part b", "depends_on": ["a"], "body": "Do b."},
    ],
}
FLOWS = {
    "split": "stages: [{name: split, role: breakdown, approval: true}]\ngates: []\nland: none\n",
    "small": "stages: [{name: implement, role: implementer}]\ngates: []\n",
    "told": "stages: [{name: implement, role: implementer}]\ngates: [checks]\n"
    'after:\n  - {title: "Announce it", role: documenter, flow: small}\n',
}


class Scene(NamedTuple):
    """The repository as the person sees it, and what the entries say. Tasks by the slug of their title."""

    repo: Repo
    ids: Mapping[str, str]
    states: Mapping[str, State]
    ledgers: Mapping[str, Ledger]
    entries: Mapping[str, tuple[Entry, ...]]

    def at(self, slug: str, state: State, *kinds: str) -> bool:
        """It is in `state`, and no entry is of one of `kinds` yet."""
        return self.states.get(slug) is state and not self.count(slug, *kinds)

    def count(self, slug: str, *kinds: str) -> int:
        return sum(entry.opening.kind in kinds for entry in self.entries.get(slug, ()))

    def works(self, slug: str) -> bool:
        """An agent is at it, and has said so."""
        entry = self._begun(slug)
        return self.states.get(slug) is State.CLAIMED and entry is not None and locks.is_held(entry / "lock")

    def _begun(self, slug: str) -> Path | None:
        """The open entry of an agent that has said that it is at it."""
        ledger = self.ledgers.get(slug)
        if ledger is None or ledger.open is None:
            return None
        entry = self.repo.layout.entry(self.ids[slug], ledger.open.number)
        return entry if b"at it" in _bytes(entry / "output.log") else None

    @property
    def busy(self) -> bool:
        """A program runs for a task that waits for it."""
        found = [self.ids[slug] for slug, state in self.states.items() if state in ACTIVE]
        return any(locks.is_held(path) for task in found for path in self.repo.layout.entries(task).glob("[0-9]*/lock"))

    @property
    def open(self) -> bool:
        """Something was begun and not closed, whoever it is about."""
        return any(ledger.open is not None for ledger in self.ledgers.values())

    @property
    def waited_for(self) -> bool:
        """An agent is at work that ends only when somebody ends it: its supervisor may be dead, its task given up."""
        return "drop" in self.states and self._begun("drop") is not None


class Duty(NamedTuple):
    """What the person does as soon as it is `due`: the arguments of `octopoid`, or nothing of ours."""

    name: str
    due: Callable[[Scene], bool]
    argv: Callable[[Scene], Sequence[str]]
    itself: Callable[[Repo], object] | None = None
    env: Mapping[str, str] = {}


class Life(NamedTuple):
    """`ends`: where every task is at the end, by slug; `lands`: how often each landed. `order`: of these the ages,
    and the landings of those that land, are in this order.
    """

    name: str
    policy: Mapping[str, Any]
    duties: tuple[Duty, ...]
    ends: Mapping[str, State]
    lands: Mapping[str, int]
    order: tuple[str, ...] = ()

    def prepare(self, repo: Repo) -> None:
        """The policy and the agents."""
        worker = {"adapter": "scripted", "script": ".octopoid/scripted.json", "instances": 2}
        agents = {role: worker | {"role": role} for role in ("implementer", "gatekeeper", "breakdown", "documenter")}
        text = f"PARTS={shlex.quote(json.dumps(PARTS))}\n{AGENT}"
        acts = {"tasks": {"default": {"default": [[{"run": ["sh", "-c", text]}]]}}}
        usual = {"agents": agents, "max_agents": 1, "checks": [{"name": "tests", "run": "true"}]}
        script(repo, acts, **{**usual, **self.policy})
        repo.layout.flows.mkdir(exist_ok=True)
        for name, flow in FLOWS.items():
            (repo.layout.flows / f"{name}.yaml").write_text(flow, encoding="utf-8")

    def over(self, scene: Scene) -> bool:
        """Every task is where it is to be at the end."""
        return dict(scene.states) == dict(self.ends)


def look(repo: Repo) -> Scene:
    """What is there now. A task in two folders is that of the later one here; `examine` counts."""
    ids, states = {}, {}
    for state in State:
        for path in repo.layout.folder(state).glob("[!.]*.md"):
            slug = path.stem.rpartition("-")[0]
            ids[slug], states[slug] = path.stem, state
    for path in repo.layout.moving.glob("*.md"):
        source, _, name = path.stem.partition("+")
        slug = name.rpartition("-")[0]
        ids[slug], states[slug] = name, State[source]
    entries = {slug: attempts.read(repo.layout, task) for slug, task in ids.items()}
    return Scene(repo, ids, states, {slug: fold(one) for slug, one in entries.items()}, entries)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def enqueue(title: str, *more: str, after: str = "") -> Duty:
    slug = title.lower().replace(" ", "-")

    def due(scene: Scene) -> bool:
        return slug not in scene.states and (not after or scene.states.get(after) in (State.DONE, State.ARCHIVED))

    return Duty(f"enqueue {title}", due, lambda _scene: ("enqueue", title, "-b", f"Do {title}.", *more))


def does(verb: str, slug: str, due: Callable[[Scene], bool], *more: str, env: Mapping[str, str] | None = None) -> Duty:
    return Duty(f"{verb} {slug}", due, lambda scene: (verb, scene.ids[slug], *more), env=env or {})


def _accepted(scene: Scene) -> bool:
    """The gatekeeper said yes, nobody has taken that in, and the base is where it was."""
    ledger = scene.ledgers.get("work")
    if ledger is None or not ledger.reviews or (scene.repo.root / "MOVED.md").exists():
        return False
    entry = scene.repo.layout.entry(scene.ids["work"], ledger.reviews[-1].number)
    return b"accept" in _bytes(entry / "result.json") and not locks.is_held(entry / "lock")


def _finished(*slugs: str) -> Callable[[Scene], bool]:
    return lambda scene: all(scene.states.get(slug) is State.DONE for slug in slugs)


def _some_done(*slugs: str) -> Callable[[Scene], bool]:
    """All of them are over, and one is not in the archive yet."""
    over = (State.DONE, State.ARCHIVED)
    return lambda scene: (
        all(scene.states.get(slug) in over for slug in slugs)
        and any(scene.states.get(slug) is State.DONE for slug in slugs)
    )


_CLEAN: Callable[[Scene], Sequence[str]] = lambda _scene: ("clean",)  # noqa: E731 - a row of a table
_UNDO: Callable[[Scene], Sequence[str]] = lambda _scene: ("undo",)  # noqa: E731 - as above


def _clean(*slugs: str) -> Duty:
    return Duty("clean", _some_done(*slugs), lambda _scene: ("clean",))


def _is_paused(scene: Scene, name: str) -> bool:
    return (scene.repo.layout.pause / name).exists()


def _edited(scene: Scene) -> bool:
    task = scene.ids["drop"]
    return b"One more." in _bytes(scene.repo.layout.task_file(scene.states["drop"], task))


def _human(scene: Scene, text: bytes) -> bool:
    """`ask` waits for a person's yes to work that says `text`; the last word is what decides."""
    ledger = scene.ledgers.get("ask")
    if ledger is None or scene.states["ask"] is not State.PROVISIONAL or ledger.open or not ledger.candidate:
        return False
    if any(verdict.gate == "human" and verdict.candidate == ledger.candidate for verdict in ledger.verdicts):
        return False
    worktree = scene.repo.layout.home / "worktrees" / scene.ids["ask"] / f"{scene.ids['ask']}.txt"
    return _bytes(worktree).split()[-1:] == [text]


WORK = Life(
    "work",
    {"gates": ["checks", "gatekeeper"]},
    (
        enqueue("Work"),
        does("say", "work", lambda scene: scene.at("work", State.INCOMING, "say", "attempt"), "-m", "be kind"),
        Duty(
            "the base moves",
            _accepted,
            lambda _scene: (),
            itself=lambda repo: commit(repo, {"MOVED.md": "The base moved.\n"}, "Somebody else's"),
        ),
        _clean("work"),
    ),
    {"work": State.ARCHIVED},
    {"work": 1},
)

SPLIT = Life(
    "split",
    {"gates": []},
    (
        enqueue("Big", "--flow", "split"),
        does(
            "approve", "big", lambda scene: bool(scene.at("big", State.PROVISIONAL) and scene.ledgers["big"].awaiting)
        ),
        _clean("big", "part-a", "part-b"),
    ),
    {"big": State.ARCHIVED, "part-a": State.ARCHIVED, "part-b": State.ARCHIVED},
    {"part-a": 1, "part-b": 1},
    ("part-a", "part-b"),
)

AFTER = Life(
    "after",
    {"gates": []},
    (enqueue("News", "--flow", "told"),),
    {"news": State.DONE, "announce-it": State.DONE},
    {"news": 1, "announce-it": 1},
)

TALK = Life(
    "talk",
    {"gates": ["human"]},
    (
        enqueue("Ask"),
        does("answer", "ask", lambda scene: scene.at("ask", State.BLOCKED, "answer"), "-m", "with a spoon"),
        does("reject", "ask", lambda scene: _human(scene, b"work"), "-m", "say more"),
        does("approve", "ask", lambda scene: _human(scene, b"more") or _human(scene, b"again")),
        does("reopen", "ask", lambda scene: scene.at("ask", State.DONE, "reopen"), "-m", "once again"),
        Duty(
            "clean",
            lambda scene: scene.at("ask", State.DONE) and not scene.at("ask", State.DONE, "reopen"),
            lambda _scene: ("clean",),
        ),
    ),
    {"ask": State.ARCHIVED},
    {"ask": 2},
)

STOP = Life(
    "stop",
    {"gates": []},
    (
        enqueue("Drop"),
        does(
            "edit",
            "drop",
            lambda scene: scene.at("drop", State.INCOMING, "attempt") and not _edited(scene),
            env={"EDITOR": "sh -c 'echo One more. >> \"$0\"'"},
        ),
        does(
            "pause",
            "drop",
            lambda scene: (
                scene.at("drop", State.INCOMING, "attempt", "release")
                and not _is_paused(scene, f"task-{scene.ids['drop']}")
            ),
        ),
        does("retry", "drop", lambda scene: scene.at("drop", State.INCOMING, "attempt", "release")),
        does(
            "resume",
            "drop",
            lambda scene: scene.at("drop", State.INCOMING) and _is_paused(scene, f"task-{scene.ids['drop']}"),
        ),
        does("stop", "drop", lambda scene: scene.works("drop") and scene.count("drop", "release") == 1),
        does(
            "retry",
            "drop",
            lambda scene: scene.at("drop", State.BLOCKED) and scene.count("drop", "release") == 1,
        ),
        does("cancel", "drop", lambda scene: scene.works("drop") and scene.count("drop", "release") == 2),
    ),
    {"drop": State.CANCELLED},
    {},
)

UNDO = Life(
    "undo",
    {"gates": []},
    (
        enqueue("Slip"),
        does("cancel", "slip", lambda scene: scene.at("slip", State.INCOMING, "undo", "attempt")),
        Duty("undo", lambda scene: scene.at("slip", State.CANCELLED, "undo"), _UNDO),
        Duty("clean", lambda scene: scene.at("slip", State.DONE) and scene.count("slip", "undo") == 1, _CLEAN),
        Duty("undo", lambda scene: scene.at("slip", State.ARCHIVED) and scene.count("slip", "undo") == 1, _UNDO),
    ),
    {"slip": State.DONE},
    {"slip": 1},
)

LIVES = (WORK, SPLIT, AFTER, TALK, STOP, UNDO)

_SIX = tuple(f"task{number}" for number in range(6))
STORM = Life(
    "storm",
    {"gates": ["checks", "gatekeeper"], "max_agents": 4},
    (),
    dict.fromkeys(_SIX, State.DONE),
    dict.fromkeys(_SIX, 1),
)
