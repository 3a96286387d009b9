"""Reading what a finished run left behind, and closing its entry with what that means."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import (
    attempts,
    breakdown,
    credentials,
    documents,
    durable,
    ending,
    evidence,
    framing,
    gates,
    intrusions,
    judging,
    lifecycle,
    metering,
    process,
    results,
    resuming,
    spawning,
    steer,
    stopping,
    store,
)
from octopoid.adapters import ADAPTERS, Evidence, Reading
from octopoid.adapters.base import NONSENSE, PASSING, by_status, cut_short, for_want_of_room, hear, output
from octopoid.adapters.events import Event, told
from octopoid.deliverables import Remains
from octopoid.errors import Invalid
from octopoid.evidence import Exit, Facts, StepExit
from octopoid.layout import Layout
from octopoid.model import Breaker, Entry, Item, Opening, Outcome, Result
from octopoid.plans import Live, Refuse
from octopoid.settings import Agent, Config
from octopoid.states import State
from octopoid.steps import worktrees_folder

END_GRACE = 2.0
"""Seconds that what is left of a dead supervisor's attempt gets between SIGTERM and SIGKILL."""

_DEEP = 100
_END = 8 * 1024
"""Bytes at the end of an output in which a program says that there was no room."""
_WHY = 300
"""Characters of the sentence with which an open breaker is shown."""
_RECORDS, _TAIL = 256 * 1024, 4096
"""Bytes of an agent's records that are looked at, and characters that are kept, for the end of what it said."""


class Premises(NamedTuple):
    """What agents are started with: the policy, and the scheduler's environment."""

    config: Config
    env: Mapping[str, str]


def close(
    layout: Layout, item: Item, entry: Entry, premises: Premises, ids: Collection[str], now: float
) -> Outcome | None:
    """Close `entry` and make its move. None: somebody of it still lives and could not be ended; look again later.

    `ids`: every task there is.

    Before anything is re-queued everything that carries the entry's mark is ended and confirmed gone (LESSONS 17).
    """
    config, folder = premises.config, layout.entry(item.id, entry.number)
    if not ending.end_marked(str(folder), END_GRACE):
        return None
    known = _secrets(premises)
    remains = _said_without(_remains(layout, item, entry, config), known)
    above = _ancestors(layout, item)
    waited_for = frozenset(ids) - {item.id, *above}  # they wait for their subtasks: none of these can wait for them
    frame = framing.frame(item, entry.opening, config, framing.Family(waited_for, len(above)))
    outcome = judging.judge(entry.opening, remains, item.ledger, frame, now)
    if not _at_home(item, entry):
        outcome = _elsewhere(outcome, item.state.value)
    used = metering.used(folder, entry.opening, remains.exit, remains.reading, remains.word, config)
    outcome = outcome._replace(**used._asdict(), began=evidence.began(folder, remains.exit))
    outcome = _without_secrets(outcome, known)
    made = framing.tasks(item, entry, remains.word, outcome, config, ids)
    outcome = _keep(layout, item, entry, remains, outcome, made)
    lifecycle.settle(layout, item.id, entry.number, outcome, now)
    _breaker(layout, entry.opening, outcome, remains.reading, premises)
    return outcome


def _secrets(premises: Premises) -> tuple[credentials.Secret, ...]:
    """Of every agent: what one was given, the next one's checks may print."""
    agents = premises.config.agents.values()
    return credentials.secrets(premises.env, {name for agent in agents for name in agent.env})


def _said_without(remains: Remains, known: tuple[credentials.Secret, ...]) -> Remains:
    """Before anything is made of it: subtasks, documents and prompts are made of what an agent said."""
    word = remains.word
    if word != Result():
        with contextlib.suppress(Invalid):
            word = results.load(credentials.hidden(results.dump(word).decode(), known).encode())
    return remains._replace(word=word, tail=credentials.hidden(remains.tail, known))


def _without_secrets(outcome: Outcome, known: tuple[credentials.Secret, ...]) -> Outcome:
    def told(text: str) -> str:
        return credentials.hidden(text, known)

    return outcome._replace(
        detail=told(outcome.detail),
        feedback=told(outcome.feedback),
        summary=told(outcome.summary),
        questions=tuple(map(told, outcome.questions)),
    )


def _keep(
    layout: Layout, item: Item, entry: Entry, remains: Remains, outcome: Outcome, made: tuple[breakdown.Made, ...]
) -> Outcome:
    """Write down what the agent said and what it hands on, before the outcome that speaks of it.

    A kill in between is no harm: the entry is closed again, and the same is written again.
    """
    folder = layout.entry(item.id, entry.number)
    word = remains.word
    if word != Result():
        durable.write(folder / results.SAID, results.dump(word))
    if outcome.class_ != "ok" and outcome.reason != "question":
        return outcome
    if entry.opening.produces == "verdict" and outcome.class_ == "ok" and outcome.artifacts:
        text = _verdict_text(entry.opening, word)
        documents.write(layout.entry_artifacts(item.id, entry.number), entry.opening.artifact, text.encode())
    documents.publish(layout, item.id, entry.number, outcome.artifacts)
    if not made:
        return outcome
    durable.write(folder / spawning.CHILDREN, spawning.dump(made))
    return outcome._replace(
        children=tuple(one.id for one in made if not one.proposal),
        proposals=tuple(one.id for one in made if one.proposal),
    )


def _verdict_text(opening: Opening, word: Result) -> str:
    """The document that a verdict becomes where it is the stage's own work (flow `review-only`)."""
    parts = (f"# {opening.role}: {word.outcome}", word.summary, word.feedback, judging.findings(word))
    return results.clean("\n\n".join(part for part in parts if part)) + "\n"


def _ancestors(layout: Layout, item: Item) -> list[str]:
    """The tasks whose breakdowns lie between this one and the one that a person wrote."""
    found: list[str] = []
    parent = item.task.parent if item.task else None
    while parent and len(found) < _DEEP:
        found.append(parent)
        parent = spawning.parent_of(layout, parent)
    return found


def close_stray(layout: Layout, task: str, entry: Entry, where: str, config: Config, now: float) -> bool:
    """Close an open entry of a task that is not in an active folder any more. False: it could not be ended yet."""
    folder = layout.entry(task, entry.number)
    if not ending.end_marked(str(folder), END_GRACE):
        return False
    exit_ = _exit(folder)
    reading, word = _reading(folder, entry, exit_, config), Result()
    with contextlib.suppress(Invalid):
        word = _word(folder, None)
    used = metering.used(folder, entry.opening, exit_, reading, word, config)
    outcome = Outcome(entry.opening.kind, "", False, "stopped", f"its task went to {where}", now)
    attempts.close(layout, task, entry.number, outcome._replace(**used._asdict()))
    return True


def end_forgotten(layout: Layout, task: str) -> bool:
    """Nothing is open about a claimed task: end whoever works on it all the same. False: somebody could not be ended.

    Then its entry says what is not so (an agent can write there), and is set aside: nobody is to believe it.
    """
    folder = layout.entries(task)
    for entry in [folder / name for name in store.durable_names(folder) if name.isdecimal()]:
        if ending.marked(str(entry)):
            if not ending.end_marked(str(entry), END_GRACE):
                return False
            entry.rename(folder / f".foreign-{entry.name}")
    return True


def end(layout: Layout, task: str, entry: Entry, why: str, gently: bool) -> None:
    """Ask the supervisor of an open entry to end its run, or end everything of it where there is no supervisor."""
    folder = layout.entry(task, entry.number)
    if gently:
        stopping.ask(folder, why)
    else:
        ending.end_marked(str(folder), END_GRACE)


def refuse(layout: Layout, item: Item, refusal: Refuse, config: Config, now: float) -> None:
    """What the gates' no means: recorded as a gate entry of its own, with its move."""
    outcome = judging.refusal(refusal, item.ledger, framing.rounds(item, config), now)
    opening = Opening("gate", now, gate=refusal.gate, candidate=item.ledger.candidate, tree=refusal.tree)
    lifecycle.record(layout, item.id, opening, outcome, now)


def liveness(layout: Layout, task: str, entry: Entry, held: bool) -> Live:
    """What the kernel says about an open entry whose lock is (not) `held`."""
    if not held:
        return Live(False, False)
    folder = layout.entry(task, entry.number)
    facts = process.read_pid(str(folder))
    runner = facts.get("runner_pid")
    if not runner:
        return Live(True, True)  # between its start and its first line of evidence
    alive = process.is_alive(runner, facts.get("runner_start"))
    return Live(True, alive, (folder / "stop").exists())


def _at_home(item: Item, entry: Entry) -> bool:
    return item.state is (State.CLAIMED if entry.opening.kind == "attempt" else State.PROVISIONAL)


def _elsewhere(outcome: Outcome, where: str) -> Outcome:
    """The task was moved away under the run: closed, charged to nobody, no move of ours."""
    return Outcome(
        outcome.kind,
        "",
        False,
        "stopped",
        f"its task went to {where}",
        outcome.ended,
        start_sha=outcome.start_sha,
        base_sha=outcome.base_sha,
        session=outcome.session,
    )


def _remains(layout: Layout, item: Item, entry: Entry, config: Config) -> Remains:
    folder = layout.entry(item.id, entry.number)
    facts, word, garbled, exit_ = Facts(), Result(), "", _exit(folder)
    try:
        facts = evidence.read_facts(folder)
        start = evidence.read_start(folder)
        facts = facts._replace(start_sha=start)
    except Invalid as error:
        garbled = error.message
    facts = facts._replace(seized=_seized(layout, item, entry.opening, config))
    reading = _reading(folder, entry, exit_, config)
    try:
        word = _word(folder, reading)
    except Invalid as error:
        garbled = error.message
    if reading is not None and reading.reason == "bad result" and word == Result():
        garbled = garbled or reading.detail  # it said something, and a question among it must not be lost
    failed = exit_.failed if exit_ else None
    written: tuple[str, ...] = ()
    if entry.opening.kind == "attempt" and not garbled:
        try:
            written = documents.changed(layout, item.id, entry.number, item.ledger.artifacts)
            kept = _approved(item, entry, config)
            facts = facts._replace(changed=(*facts.changed, *(f"the approved {one}" for one in written if one in kept)))
            written = tuple(one for one in written if one not in kept)
        except Invalid as error:
            garbled = error.message
    return Remains(
        exit=exit_,
        facts=facts,
        reading=reading,
        word=word,
        garbled=garbled,
        tail=_tail(folder, failed, entry.opening.adapter) if failed else "",
        stop=_stop(folder),
        started=entry.started or exit_ is not None,
        documents=written,
        session=resuming.session(folder, entry.opening, reading) if exit_ is None or failed or exit_.stopped else "",
    )


def _seized(layout: Layout, item: Item, opening: Opening, config: Config) -> str:
    """The commit that the attempt moved its base to by itself. Asked here, because it may have ended in any way."""
    if opening.kind != "attempt" or not opening.base or not opening.base_sha:
        return ""
    place = worktrees_folder(layout, config) / item.id
    return intrusions.took_the_base(layout.root, place, opening.base, opening.base_sha)


def _approved(item: Item, entry: Entry, config: Config) -> frozenset[str]:
    """The documents that a person said yes to: no later stage puts another version behind that yes."""
    flow = gates.flow_of(item.task, config) if item.task else None
    earlier = [one for one in flow.stages if one.name != entry.opening.stage] if flow else []
    return frozenset(one.artifact for one in earlier if one.approval and one.name in item.ledger.stages)


def _tail(folder: Path, failed: StepExit, adapter: str) -> str:
    """The end of what the failed step printed, as people read it: the next attempt's prompt has it too."""
    if failed.name != "agent" or adapter not in ADAPTERS:
        return evidence.tail(folder, failed)
    lines = evidence.tail(folder, failed, _RECORDS).split("\n")
    said = (_said(line, hear(ADAPTERS[adapter], line.encode("utf-8", "replace"))) for line in lines)
    return "\n".join(text for text in said if text)[-_TAIL:]


def _said(line: str, events: tuple[Event, ...] | None) -> str:
    return line if events is None else "\n".join(text for text in map(told, events) if text)


def _exit(folder: Path) -> Exit | None:
    try:
        return evidence.read_exit(folder)
    except (FileNotFoundError, Invalid):
        return None  # no record, or a torn one: the supervisor died


def _word(folder: Path, reading: Reading | None) -> Result:
    """The agent's own result file, else what its adapter found in its output. To open a pipe would be to wait."""
    if os.path.lexists(folder / "result.json"):
        return results.parse(documents.read(folder / "result.json"))
    return (reading.result if reading else None) or Result()


def _reading(folder: Path, entry: Entry, exit_: Exit | None, config: Config) -> Reading | None:
    opening = entry.opening
    step = exit_.step("agent") if exit_ else None
    if step is None or opening.adapter not in ADAPTERS:
        return None
    # The agent may have left the policy since: its adapter still reads what it left.
    agent = config.agents.get(opening.agent) or Agent(
        opening.agent, opening.role, opening.adapter, command=(opening.agent,)
    )
    facts = Evidence(step.status, step.signal, step.ended_by, folder / "output.log", step.log_start, step.log_end)
    try:
        reading = ADAPTERS[agent.adapter].read(agent, facts)
    except NONSENSE:  # then its exit alone counts
        reading = cut_short(agent.adapter, agent, facts) or by_status(facts)
    return for_want_of_room(reading, output(facts, _END), shutil.disk_usage(folder).free)


def _stop(folder: Path) -> str:
    try:
        return documents.read(folder / "stop").decode("utf-8", "replace").strip() or "stopped"
    except Invalid:
        return ""


def _breaker(layout: Layout, opening: Opening, outcome: Outcome, reading: Reading | None, premises: Premises) -> None:
    """An environment failure trips the breaker it names; an attempt that got anywhere closes those of its agent."""
    name = outcome.breaker
    pools = [agent for agent in premises.config.agents.values() if name in agent.breakers]
    if name:
        news = Breaker(
            name,
            why=results.bounded(outcome.detail.strip().split("\n")[0], _WHY),
            since=outcome.ended,
            until=0.0,
            trips=0,
            fix=reading.fix if reading else "",
            agents=tuple(agent.name for agent in pools) or (opening.agent,),
            marks=tuple(credentials.mark(agent, premises.env) for agent in pools),
            passing=reading is not None and reading.reason in PASSING,
        )
        steer.trip(layout, news, opening.at, reading.retry_after if reading else 0.0)
    elif opening.agent and outcome.began and outcome.class_ in ("ok", "task"):  # not where its pre_check said no
        agent = premises.config.agents.get(opening.agent)
        names = agent.breakers if agent else (f"agent:{opening.agent}",)
        steer.works(layout, names, opening.at, outcome.ended)
