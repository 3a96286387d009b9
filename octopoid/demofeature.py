"""The demo of the flow `feature`: one task from an idea to reviewed, tested, documented work, in the same repository.

The flow is the built-in one, its roles follow a script. The person's two moves are those of `octopoid answer` and
`octopoid approve`. What is told at the end is read from git and from the evidence of the task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, demo, git, lifecycle, replies, sections, store
from octopoid.layout import Layout
from octopoid.model import Entry, Ledger
from octopoid.states import State

TASK = "add-summary"
PLAN = "plan.md"
TOGETHER = ("reviewer", "security-reviewer", "tester")
"""The gates that the flow asks at the same time."""

ANSWER = "Yes, an error with status 2."
"""What the demo says in the place of a person when the planner asks."""

TURNS = 2
"""So often a person is asked."""

STORY: Mapping[str, str] = {
    "research": "a researcher writes research.md",
    "plan": "a planner asks you, then writes plan.md, which you approve",
    "implement": "an implementer follows the plan; its first attempt has a hole",
    "checks": "the tests of the project, and the task's own command",
    "review": "reviewer, security-reviewer and tester, at the same time",
    "gatekeeper": "somebody looks at the whole once more",
    "land": "the work is merged into main",
    "document": "a task that follows: a documenter writes the README",
}
"""The steps of the flow, and what happens there."""

_POLICY = """\
# The policy of the demo. A real one has real agents: `adapter: claude`, or `adapter: command` for any program; and one
# agent can play many roles: `roles: [reviewer, tester]`, or `roles: all`.
version: 1
base: main
checks:
  - {name: tests, run: %(tests)s, timeout: 60s}
gates: [checks]
agents:
  researcher: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  planner: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  implementer: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  reviewer: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  security-reviewer: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  tester: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  gatekeeper: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
  documenter: {adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
"""


class Turn(NamedTuple):
    """What a person is asked for. `shown`: the question, or the document; `command`: what a person would type."""

    asked: str
    shown: tuple[str, ...]
    command: str


class Span(NamedTuple):
    """A gate at work. Times are those of its supervisor, in seconds since the epoch."""

    gate: str
    began: float
    ended: float
    yes: bool


class Ending(NamedTuple):
    """What is true in the scratch repository afterwards, by git and the evidence.

    `commits`: task → commit on main, in the order of landing. `spans`: the gates that were asked together, a tuple for
    each round. `refusals`: what went back. `follows`: tasks that were made when it landed. `proposals`: what an agent
    noticed beside its work.
    """

    commits: Mapping[str, str]
    spans: tuple[tuple[Span, ...], ...]
    refusals: tuple[str, ...]
    follows: tuple[str, ...]
    proposals: tuple[str, ...]
    wrong: tuple[str, ...]


def make(place: Path) -> Layout:
    """The scratch repository in the empty folder `place`. Raises GitError, NotFound."""
    return demo.make(place, _POLICY, "feature-agent.yaml")


def enqueue(layout: Layout, now: float) -> None:
    """The one task. `now`: seconds since the epoch."""
    lifecycle.enqueue(layout, TASK, demo.filled((demo.FILES / "feature-task.md").read_bytes()), now)


def turn(layout: Layout) -> Turn | None:
    """What the task waits for a person for; None when it does not."""
    found, ledger = store.find(layout, TASK), lifecycle.ledger_of(layout, TASK)
    if found is None:
        return None
    if found[0] is State.BLOCKED and ledger.reason == "question":
        return Turn("the planner asks:", ledger.questions, f'octopoid answer {TASK} -m "{ANSWER}"')
    if ledger.awaiting:
        text = (layout.artifacts(TASK) / PLAN).read_text(encoding="utf-8")
        return Turn(f"{PLAN} waits for a yes:", tuple(text.splitlines()), f"octopoid approve {TASK}")
    return None


def take(layout: Layout, now: float) -> None:
    """The person's move, as the command makes it that `turn` names."""
    found, ledger = store.find(layout, TASK), lifecycle.ledger_of(layout, TASK)
    if found is not None and ledger.awaiting:
        lifecycle.approve(layout, TASK, ledger, "", now)
    elif found is not None:
        pairs = replies.pairs(ledger.questions, sections.answers(store.read(found[1])), [ANSWER])
        lifecycle.answer(layout, TASK, pairs, now)


def ending(layout: Layout) -> Ending:
    """What came of it. `wrong` has a sentence for everything that is not as it should be."""
    entries, history = attempts.read(layout, TASK), demo.landings(layout)
    landed = dict(history)
    found = Ending(
        commits=landed,
        spans=_spans(layout, entries),
        refusals=tuple(one.outcome.feedback for one in entries if one.outcome and one.outcome.verb == "reject"),
        follows=tuple(task for task in landed if task != TASK),
        proposals=tuple(name for one in entries if one.outcome for name in one.outcome.proposals),
        wrong=(),
    )
    ledger = lifecycle.ledger_of(layout, TASK)
    wrong = (*_order(entries, ledger), *_gates(found), *_landing(layout, found), *demo.twice(history))
    return found._replace(wrong=wrong)


def overlap(spans: Sequence[Span]) -> float:
    """For so many seconds all of them were at work; below zero where the last began after the first had ended."""
    return min(one.ended for one in spans) - max(one.began for one in spans) if spans else 0.0


# --- what the evidence says ---


def _spans(layout: Layout, entries: Sequence[Entry]) -> tuple[tuple[Span, ...], ...]:
    """The gates that were asked together, by candidate, in the order in which they were asked."""
    rounds: dict[str, tuple[Span, ...]] = {}
    for entry in entries:
        gate, candidate, outcome = entry.opening.gate, entry.opening.candidate, entry.outcome
        if gate in TOGETHER and entry.exited and outcome is not None and outcome.verdict:
            began, ended = _times(layout, entry)
            span = Span(gate, began, ended, outcome.verdict == "accept")
            rounds[candidate] = (*rounds.get(candidate, ()), span)
    return tuple(rounds.values())


def _times(layout: Layout, entry: Entry) -> tuple[float, float]:
    """From when to when the agent's own program ran, by its exit record."""
    record = json.loads((layout.entry(TASK, entry.number) / "exit.json").read_bytes())
    step = next(one for one in record["steps"] if one["name"] == "agent")
    return float(step["started"]), float(step["ended"])


def _order(entries: Sequence[Entry], ledger: Ledger) -> Iterator[str]:
    """Question, answer, plan, yes, implementation: in this order."""
    told = [one.opening.kind if one.opening.by == "person" else one.opening.stage for one in entries]
    wanted = ("research", "plan", "answer", "plan", "approve", "implement")
    if tuple(told[: len(wanted)]) != wanted:
        yield f"it went {', '.join(told[: len(wanted)])} and not {', '.join(wanted)}"
    yield from (f"there is no {name}" for name in ("research.md", PLAN) if name not in ledger.artifacts)


def _gates(found: Ending) -> Iterator[str]:
    """Refused once, with all that was found; asked at the same time, each time."""
    if len(found.refusals) != 1:
        yield f"the work was refused {len(found.refusals)} times, not once"
    elif "textkit/summary.py:8: error:" not in found.refusals[0] or "## tester refuses" not in found.refusals[0]:
        yield "what went back is not what security-reviewer and tester found"
    answers = [[one.gate for one in spans if one.yes] for spans in found.spans]
    if [sorted(gates) for gates in answers] != [["reviewer"], sorted(TOGETHER)]:
        yield f"the gates said yes in this way: {answers}"
    for number, spans in enumerate(found.spans, start=1):
        if overlap(spans) <= 0:
            yield f"the gates of round {number} did not overlap"


def _landing(layout: Layout, found: Ending) -> Iterator[str]:
    """Landed once, without the hole, with its documentation, and without the documents of its stages."""
    for task in (TASK, *found.follows):
        if not demo.is_done(layout, task, found.commits):
            yield f"{task} did not land: it is {demo.where(layout, task)}"
    if len(found.follows) != 1 or "textkit summary" not in _on_main(layout, "README.md"):
        yield "no documentation landed"
    if "glob" not in _on_main(layout, "textkit/summary.py"):
        yield "what landed still has the hole"
    files = git.run(layout.root, "ls-tree", "-r", "--name-only", "main").out.split("\n")
    yield from (f"{name} was committed" for name in files if Path(name).name in ("research.md", PLAN))
    if len(found.proposals) != 1:
        yield f"{len(found.proposals)} tasks were proposed, not one"


def _on_main(layout: Layout, path: str) -> str:
    shown = git.run(layout.root, "show", f"main:{path}", ok=(0, 128))
    return "" if shown.status else shown.out
