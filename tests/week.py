"""The simulated week: many tasks over every flow, agents that misbehave at fixed odds, a person with moods, a seed.

`scripts/week` runs it in earnest and `tests/test_week.py` for a moment. What every agent will do at which attempt is
written down before anything starts; then there is only the installed program, real git and real processes.
docs/simulated-week.md tells what is simulated and what must hold at the end (`weekend.py` looks).
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness import Background, Repo, drop, make_repo, script

Odds = Mapping[str, int]
Script = dict[str, list[Any]]
"""Role → its attempts."""

PATIENCE = 900.0
"""Seconds after which a round has hung."""
QUIET = 1.5
"""Seconds without an event after which the person looks at what waits."""
CONFLICT = 5
ROUNDS = 60
"""A week that is not over then never will be."""
ROLE, FLOW = "poet", "poem"
LIMITS = {"attempts": 2, "rounds": 3, "handoffs": 3, "depth": 2, "subtasks": 6, "proposals": 8, "usd_per_task": 5}
LIMITS |= {"max_provisional": 1000}
OWN_ROLE = """\
---
description: writes verses
produces: commits
inputs: [mood.md]
---
Write a verse about: {{ task.title }}
"""
OWN_FLOWS = {
    FLOW: """\
stages:
  - {name: mood, role: researcher, artifact: mood.md}
  - {name: verse, role: poet, needs: [mood.md]}
gates: [[reviewer, {gate: tester, required: false}, checks], human]
rounds: 2
land: {mode: squash}
conflicts: rebaser
after: [{title: "Announce {id}", role: documenter, flow: document}]
""",
    "split": "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n",
}
JUDGES = ("gatekeeper", "reviewer", "security-reviewer", "tester")
WRITERS = ("researcher", "planner", "product-manager", "architect")
WORKERS = ("implementer", "backend-engineer", "qa-engineer", "documenter", "devops", ROLE, "rebaser")
DOCUMENTS = {"researcher": "research.md", "planner": "plan.md", "product-manager": "requirements.md"}
DOCUMENTS |= {"architect": "design.md"}
ROLES: Mapping[str, tuple[str, ...]] = {
    "default": ("implementer", "gatekeeper"),
    "quick": ("implementer",),
    "feature": ("researcher", "planner", "implementer", *JUDGES, "rebaser"),
    "breakdown": ("breakdown",),
    "split": ("breakdown",),
    "fix": ("implementer", "gatekeeper"),
    "review-only": ("reviewer",),
    "document": ("documenter", "gatekeeper"),
    "team": (*WRITERS[2:], "backend-engineer", "qa-engineer", "documenter", "reviewer", "security-reviewer", "rebaser"),
    FLOW: ("researcher", ROLE, "reviewer", "tester", "rebaser"),
}
"""Who is at work in each flow."""

# --- what happens how often; the numbers are parts of their sum ---

FLOWS: Odds = {"default": 20, "quick": 20, "feature": 9, "breakdown": 6, "split": 3, "fix": 10, "review-only": 8}
FLOWS = {**FLOWS, "document": 8, "team": 6, FLOW: 10}
WORKING: Odds = {"good": 50, "loose": 8, "notices": 5, "clash": 5, "wrong": 5, "fail": 5, "nothing": 3, "garbled": 3}
WORKING = {**WORKING, "gives up": 2, "ask": 4, "hand over": 3, "hang": 2, "babble": 1, "stubborn": 1, "crash": 2}
WORKING = {**WORKING, "orphan": 1, "policy": 1, "judge": 1, "dear": 1, "chatty": 1}
JUDGING: Odds = {"accept": 62, "remark": 8, "reject": 14, "silent": 3, "garbled": 3, "fail": 2, "hang": 1, "crash": 1}
JUDGING = {**JUDGING, "scribble": 3, "torn": 1, "ask": 1, "done": 1}
WRITING: Odds = {"write": 74, "silent": 5, "ask": 5, "fail": 4, "garbled": 3, "trespass": 4, "hang": 1, "crash": 1}
WRITING = {**WRITING, "hand over": 2, "same": 1}
SPLITTING: Odds = {"parts": 60, "silent": 4, "circle": 6, "stranger": 5, "many": 4, "ask": 5, "fail": 5, "garbled": 4}
SPLITTING = {**SPLITTING, "only notices": 3, "hand over": 2, "trespass": 2}
MOODS: Odds = {"usual": 86, "flips": 5, "never": 3, "circle": 3, "gloomy": 3}
"""Of a task: `flips`, its judges contradict each other and themselves; `never`, one always refuses; `circle`, its
workers hand over to each other for ever; `gloomy`, nothing ever works."""
PERSON: Mapping[str, Odds] = {
    "question": {"answer": 85, "cancel": 5, "": 10},
    "human": {"approve": 78, "reject": 17, "": 5},
    "failed": {"retry": 55, "cancel": 15, "": 30},
    "dependency": {"cancel": 60, "retry": 10, "": 30},
    "proposal": {"retry": 40, "cancel": 40, "": 20},
}
"""By the reason for which a task waits; other reasons are like `failed`. No word: the person lets it be."""


class Plan(NamedTuple):
    """What is decided before anything starts: the task files, and for each role what it will do for which task."""

    files: Mapping[str, str]
    scripts: Mapping[str, Mapping[str, list[Any]]]
    flows: Mapping[str, str]


class Run(NamedTuple):
    """How the week went, as far as only who watched it can tell: `told` by the scheduler; commands' `troubles`."""

    rounds: int
    seconds: float
    decisions: Mapping[str, int]
    told: str
    troubles: tuple[str, ...] = ()


def pick(chance: random.Random, odds: Odds) -> str:
    return chance.choices(list(odds), weights=list(odds.values()))[0]


# --- what agents do ---


def result(**word: Any) -> dict[str, Any]:
    return {"result": {"outcome": "done", "summary": "as asked", **word}}


ASK = [{"question": ["Which colour?", "And how large?"]}]
BAD: Mapping[str, list[Any]] = {
    "fail": [{"fail": "it does not work"}],
    "silent": [{"say": "hm"}],
    "nothing": [{"say": "there is nothing to do"}],
    "garbled": [{"result": '{"outcome": "don'}],
    "gives up": [result(outcome="failed", feedback="This cannot be done.")],
    "ask": ASK,
    "hang": ["hang"],
    "babble": [{"run": "while :; do echo and so on; sleep 0.2; done"}],
    "stubborn": ["ignore_sigterm", "hang"],
    "crash": ["crash"],
    "judge": [{"accept": "I like it."}],
    "done": [result()],
    "torn": [{"accept": "Fine."}, {"fail": "and then it broke"}],
}
"""The same for everybody."""

NOTE = {"write": {"path": "work/${OCTOPOID_TASK_ID}/${OCTOPOID_ROLE}-${OCTOPOID_ATTEMPT}.txt", "text": "done\n"}}
COMMIT = {"commit": "${OCTOPOID_ROLE}: ${OCTOPOID_TASK_ID}"}
TRESPASS = {"write": {"path": "stray.txt", "text": "not mine to write\n"}}
FINDING = {"file": "README.md", "line": 1, "severity": "warning", "message": "too short"}


def noticed(task: str, count: int = 1) -> list[dict[str, Any]]:
    return [{"title": f"{task} noticed {number}", "body": "Somebody should look."} for number in range(count)]


def work(what: str, task: str, to: str) -> list[Any]:
    """What one who makes commits does. `to`: who may be handed the work."""
    made: Mapping[str, list[Any]] = {
        "good": [NOTE, COMMIT],
        "loose": [NOTE],
        "notices": [NOTE, COMMIT, result(discovered=noticed(task))],
        "clash": [{"write": {"path": "shared.txt", "text": f"{task}\n"}}, COMMIT],
        "resolve": [{"run": "git merge -q -X ours main || git commit -qam resolved"}, NOTE, COMMIT],
        "wrong": [NOTE, {"write": {"path": "WRONG", "text": "x\n"}}, COMMIT],
        "mend": [{"run": "rm -f WRONG"}, NOTE, COMMIT],
        "hand over": [result(outcome="handoff", handoff_to=to, summary="better you")],
        "orphan": ["spawn_orphan", NOTE, COMMIT],
        "policy": [
            {"write": {"path": ".octopoid/roles/mine.md", "text": "# x\n"}},
            {"run": "git add -f .octopoid"},
            COMMIT,
        ],
        "dear": [NOTE, COMMIT, result(usage={"usd": 3.0})],
        "chatty": [{"spew": 300_000}, NOTE, COMMIT],
    }
    return made.get(what) or BAD[what]


def judge(what: str, _task: str, _to: str) -> list[Any]:
    made: Mapping[str, list[Any]] = {
        "accept": [{"accept": "Fine."}],
        "remark": [result(outcome="accept", findings=[FINDING])],
        "reject": [result(outcome="reject", feedback="Not like this.", findings=[FINDING])],
        "scribble": [TRESPASS, {"run": "git add -A && git commit -qm mine || true"}, {"accept": "I mended it myself."}],
    }
    return made.get(what) or BAD[what]


def write(what: str, role: str, to: str) -> list[Any]:
    name = DOCUMENTS[role]
    # A mood is wanted under another name: whoever writes a document writes it under the name that it was told.
    told = f'for f in {name} mood.md; do echo "$OCTOPOID_TASK_ID $OCTOPOID_ATTEMPT" > "$OCTOPOID_ARTIFACTS/$f"; done'
    made: Mapping[str, list[Any]] = {
        "write": [{"run": told}],
        "same": [{"run": f'echo same > "$OCTOPOID_ARTIFACTS/{name}"'}],
        "trespass": [TRESPASS, {"run": told}],
        "hand over": [result(outcome="handoff", handoff_to=to, summary="better you")],
    }
    return made.get(what) or BAD[what]


def parts(chance: random.Random, task: str, deep: bool) -> list[dict[str, Any]]:
    """Two to five subtasks that wait for some of those before them."""
    made: list[dict[str, Any]] = []
    for key in "abcde"[: chance.randint(2, 5)]:
        flow = pick(chance, {"quick": 70, "default": 20, "document": 5, "split": 2 if deep else 5})
        after = [one["key"] for one in made if chance.random() < 0.3]
        criteria = [f"it is there :: ls -d work/{task}-part-{key}*"] if chance.random() < 0.2 else []
        made.append(
            {"key": key, "title": f"{task} part {key}", "flow": flow, "depends_on": after, "criteria": criteria}
        )
    return made


def divide(chance: random.Random, what: str, task: str, deep: bool) -> list[Any]:
    good = parts(chance, task, deep)
    circle = [{**good[0], "depends_on": [good[1]["key"]]}, {**good[1], "depends_on": [good[0]["key"]]}]
    many = [{"key": str(number), "title": f"{task} part {number}"} for number in range(LIMITS["subtasks"] + 1)]
    made: Mapping[str, list[Any]] = {
        "parts": [result(subtasks=good)],
        "circle": [result(subtasks=circle)],
        "stranger": [result(subtasks=[{**good[0], "role": "implementor", "depends_on": ["nobody"]}])],
        "many": [result(subtasks=many)],
        "only notices": [result(discovered=noticed(task, 2))],
        "trespass": [TRESPASS, result(subtasks=good, discovered=noticed(task))],
        "hand over": [result(outcome="handoff", handoff_to="architect", summary="better you")],
    }
    return made.get(what) or BAD[what]


_FOLLOWS_UP = {"clash": ("resolve", 0.75), "wrong": ("mend", 0.8)}
"""After what mostly comes what."""
_LENGTH = 6
_KINDS: Sequence[tuple[Iterable[str], Odds, str]] = (
    (WORKERS, WORKING, "good"),
    (JUDGES, JUDGING, "accept"),
    (WRITERS, WRITING, "write"),
    (("breakdown",), SPLITTING, "parts"),
)


def attempts_of(chance: random.Random, task: str, role: str, mood: str, deep: bool) -> list[Any]:
    """What `role` does for `task`, attempt by attempt; the last one is done again for ever."""
    odds, usual = next((odds, usual) for roles, odds, usual in _KINDS if role in roles)
    names = [pick(chance, odds) for _ in range(_LENGTH - 1)] + [usual]
    for at, name in enumerate(names[:-1]):
        after, odds_of_it = _FOLLOWS_UP.get(name, ("", 0.0))
        names[at + 1] = after if chance.random() < odds_of_it else names[at + 1]
    if role == "rebaser":
        names = [name if name in BAD else "resolve" for name in names]
    to = chance.choice([one for one in ("implementer", "backend-engineer", "architect", "nobody") if one != role])
    if mood == "circle" and role in WORKERS:
        names, to = ["hand over"], "devops" if role != "devops" else "implementer"
    elif mood == "gloomy":
        names = ["fail"]
    elif mood in ("flips", "never") and role in JUDGES:
        first = ("accept", "reject") if JUDGES.index(role) % 2 else ("reject", "accept")
        names = list(first) * 3 if mood == "flips" else [first[0]]
    does: dict[str, Callable[[str], list[Any]]] = {
        "good": lambda name: work(name, task, to),
        "accept": lambda name: judge(name, task, to),
        "write": lambda name: write(name, role, to),
        "parts": lambda name: divide(chance, name, task, deep),
    }
    return [does[usual](name) for name in names]


# --- what is asked for ---


def _task_file(chance: random.Random, task: str, flow: str, before: Sequence[str]) -> str:
    head = [f"flow: {flow}", f"priority: P{chance.randint(0, 3)}"]
    if before and chance.random() < 0.08:
        head.append(f"depends_on: [{chance.choice(before)}]")
    if flow in ("default", "quick") and chance.random() < 0.06:
        head.append(f"project: {chance.choice(('alpha', 'beta'))}")
    if flow == "default" and chance.random() < 0.05:
        head.append("role: backend-engineer")
    needed = {"it is there :: test -e work/" + task: 80, "it was there before :: test -e README.md": 15, "soon": 5}
    wanted = {"": 80, "it is there :: test -e work/" + task: 17, "nobody can :: false": 3}
    criterion = pick(chance, needed if flow == "fix" else wanted if flow in ("default", "quick") else {"": 1})
    text = f"\n## Acceptance criteria\n- [ ] {criterion}\n" if criterion else ""
    return "\n".join(["---", *head, "---", f"# {task} in the {flow} way", "", "Do it.", text])


def decide(seed: int, count: int) -> Plan:
    """Everything that is left to chance, but the person: the same seed gives the same plan."""
    chance = random.Random(seed)  # noqa: S311 - the same again is the point
    files: dict[str, str] = {}
    flows: dict[str, str] = {}
    scripts: dict[str, dict[str, list[Any]]] = {role: {} for role in (*WORKERS, *JUDGES, *WRITERS, "breakdown")}

    def cast(key: str, flow: str, deep: bool) -> None:
        mood = pick(chance, MOODS)
        for role in dict.fromkeys((*ROLES[flow], *(("devops",) if mood == "circle" else ()))):
            scripts[role][key] = attempts_of(chance, key, role, mood, deep)

    every = [*FLOWS, *chance.choices(list(FLOWS), weights=list(FLOWS.values()), k=max(0, count - len(FLOWS)))][:count]
    for number, flow in enumerate(every):
        task = f"t{number:03d}"
        files[task], flows[task] = _task_file(chance, task, flow, list(files)), flow
        cast(task, flow, deep=False)
        for key in "abcde" if "breakdown" in ROLES[flow] else "":
            for part_flow in ("default", "split"):  # whichever it will be
                cast(f"{task}-part-{key}", part_flow, deep=True)
    for role, script_of_role in scripts.items():
        usual = next(usual for roles, _, usual in _KINDS if role in roles)
        does = {
            "good": [NOTE, COMMIT],
            "accept": [{"accept": "Fine."}],
            "parts": [result(subtasks=[{"title": "part"}])],
        }
        script_of_role["default"] = [does[usual] if usual in does else write("write", role, "")]
    return Plan(files, scripts, flows)


def prepare(place: Path, plan: Plan, limits: Mapping[str, int] = {}) -> Repo:
    """A repository with that queue and those agents, one pool for each role. `limits`: others than LIMITS."""
    repo = make_repo(place)
    agents: dict[str, Any] = {}
    for role in plan.scripts:
        agents[role] = {"role": role, "adapter": "scripted", "instances": 6, "script": f".octopoid/scripts/{role}.json"}
        agents[role] |= {"timeout": 3, "silence": 2}
    policy = {
        "max_agents": 8,
        "max_checks": 4,
        "grace": 1,
        "limits": {**LIMITS, **limits},
        "gates": ["checks", "gatekeeper"],
    }
    checks = [{"name": "right", "run": "test ! -e WRONG"}]
    script(repo, {"tasks": {"default": {"default": [["hang"]]}}}, agents={}, **policy, checks=checks)
    own = {
        f"scripts/{role}.json": json.dumps({"tasks": {key: {role: does} for key, does in tasks.items()}})
        for role, tasks in plan.scripts.items()
    }
    own |= {f"roles/{ROLE}.md": OWN_ROLE} | {f"flows/{name}.yaml": text for name, text in OWN_FLOWS.items()}
    own["agents.yaml"] = json.dumps(json.loads(repo.layout.agents_yaml.read_text()) | {"agents": agents}, indent=1)
    for name, text in own.items():
        path = repo.layout.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    repo.octopoid("config", "check")
    for task, text in plan.files.items():
        drop(repo, task, text)
    return repo


# --- the person ---


class Person:
    """Decides about what waits for one, at fixed odds. What is decided depends on the task and on how often it asked,
    not on the order in which things happened to be ready.
    """

    def __init__(self, repo: Repo, seed: int, patience: int) -> None:
        self.repo, self.seed, self.patience = repo, seed, patience
        self.troubles: list[str] = []
        self.asked: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self._read = 0

    def act(self) -> int:
        """Deal with everything that waits; how much of it is not settled for good."""
        needs = [one for one in self.repo.octopoid("status", "--json").json()["needs_you"] if one["task"]]
        labels = {one["id"]: one["labels"] for one in self.repo.octopoid("list", "--json").json()["tasks"]}
        moves: dict[str, list[str]] = {}
        for need in needs:
            task = need["task"]
            proposed = need["reason"] == "parked" and "proposal" in labels.get(task, ())
            moves.setdefault(self._choose(need, "proposal" if proposed else need["reason"]), []).append(task)
        for move, tasks in moves.items():
            if move:
                self._do(move, tasks)
        return sum(bool(move) or self.asked[task] <= self.patience for move, tasks in moves.items() for task in tasks)

    def _choose(self, need: Mapping[str, Any], reason: str) -> str:
        """As the odds say; who was asked too often says yes to what wants a yes, and gives up what holds up others."""
        task = need["task"]
        self.asked[task] += 1
        if self.asked[task] > self.patience:
            return "approve" if reason == "human" else "cancel" if need["blocks"] else ""
        chance = random.Random(f"{self.seed} {task} {reason} {self.asked[task]}")  # noqa: S311 - as above
        return pick(chance, PERSON.get(reason, PERSON["failed"]))

    def _do(self, move: str, tasks: list[str]) -> None:
        words = {"answer": ("-m", "blue"), "reject": ("-m", "not like this")}.get(move, ())
        self.decisions[move] += len(tasks)
        said = self.repo.octopoid(move, *tasks, *words, ok=None)
        if said.status not in (0, CONFLICT):
            self.troubles.append(f"octopoid {move} ended with {said.status}: {said.err[-500:]}")
        # The scheduler may be faster: then the task is not any more where the person saw it, and that is said.
        self.troubles += [line for line in said.err.splitlines() if "exists already" in line]

    def hurry(self) -> None:
        """Try again what only waits out its backoff; twice for each task, then it may wait."""
        with self.repo.layout.events.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + bool(whole)
        rows = [_row(line) for line in whole.splitlines()]
        waiting = {row["task"] for row in rows if row.get("event") == "retry"}
        tasks = sorted(one for one in waiting if self.asked[f"hurry {one}"] < 2 and self._waits(one))
        self.asked.update(f"hurry {one}" for one in tasks)
        if tasks:
            self._do("retry", tasks)

    def _waits(self, task: str) -> bool:
        return (self.repo.layout.queue / "incoming" / f"{task}.md").exists()


def _row(line: bytes) -> dict[str, Any]:
    """A line of the journal; a full disk may have cut it short, and then it is passed over."""
    with suppress(ValueError):
        return dict(json.loads(line))
    return {}


def live(repo: Repo, seed: int, patience: int, say: Callable[[str], None]) -> Run:
    """The week: run until nothing moves without the person, who decides; and so on until nothing is left to decide.

    `patience`: how often the person decides about one task as they like.
    """
    person, begun, told = Person(repo, seed, patience), time.monotonic(), ""
    for number in range(1, ROUNDS + 1):
        before = person.decisions.total()
        with repo.background("run", "--until-empty") as running:
            watch(running, person)
            told += running.text()
        left = person.act()
        say(f"round {number}: {time.monotonic() - begun:.0f} s, {person.decisions.total()} decisions, {left} to come")
        if not left and person.decisions.total() == before:  # what was decided last may have come too late for the run
            break
    return Run(number, time.monotonic() - begun, dict(person.decisions), told, tuple(person.troubles))


def watch(running: Background, person: Person) -> None:
    """Until the program has left. When little happens the person hurries what can be hurried and decides the rest."""
    events, deadline = person.repo.layout.events, time.monotonic() + PATIENCE
    while running.process.poll() is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"the round did not end within {PATIENCE:g} s\n{running.text()[-3000:]}")
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(0.2)
        if events.exists() and time.time() - events.stat().st_mtime > QUIET:
            person.hurry()
            person.act()
