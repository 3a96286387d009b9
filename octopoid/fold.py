"""Entries → Ledger: every counter, the candidate, the verdicts, the cost. Pure, and the only place they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from octopoid.model import Entry, Feedback, Ledger, Outcome, Verdict

BACKOFF_FIRST = 10.0
BACKOFF_CAP = 300.0
ENVIRONMENT_PAUSE = 30.0
RESUMED = 3
"""How often in a row an agent goes on in a session in which it is cut off the same way each time."""
PROGRAMS = frozenset({"attempt", "gate", "landing"})
"""Kinds in which a program runs, or the base is moved: open until they have an outcome."""

RESETS = frozenset({"answer", "release", "reopen", "move", "reject"})
"""A person's word gives a new budget (DESIGN §2)."""

_SUCCESS_VERBS = frozenset({"submit", "advance"})


def fold(entries: Iterable[Entry]) -> Ledger:
    """What `entries` (in the order of their numbers) say. Never raises; empty entries give an empty Ledger."""
    entries = tuple(entries)
    undone = {entry.opening.undoes for entry in entries if entry.opening.undoes}
    ledger = Ledger()
    for entry in entries:
        if entry.number not in undone:
            ledger = _moves(_STEPS.get(entry.opening.kind, _note)(ledger, entry), entry)
        ledger = ledger._replace(last=entry, next_number=entry.number + 1)
    return ledger


def backoff(failures: int) -> float:
    """Seconds to wait after the `failures`-th charged failure in a row: 10 s · 2ⁿ from n = 0, at most 5 min."""
    return min(BACKOFF_CAP, BACKOFF_FIRST * 2.0 ** max(0, failures - 1)) if failures else 0.0


def checks_verdict(ledger: Ledger, tree: str, key: str) -> Verdict | None:
    """The newest answer of the checks about exactly this tree under exactly these commands."""
    for verdict in reversed(ledger.verdicts):
        if verdict.gate == "checks" and verdict.tree == tree and verdict.key == key:
            return verdict
    return None


def candidate_verdict(ledger: Ledger, gate: str) -> Verdict | None:
    """The newest answer of a role or a person about the present candidate."""
    for verdict in reversed(ledger.verdicts):
        if verdict.gate == gate and verdict.candidate == ledger.candidate:
            return verdict
    return None


def checks_passed_once(ledger: Ledger, key: str) -> bool:
    """The present candidate passed these checks on some tree: enough to ask the later gates, not enough to land."""
    return any(
        v.gate == "checks" and v.yes and v.candidate == ledger.candidate and v.key == key for v in ledger.verdicts
    )


def checks_failed_once(ledger: Ledger, key: str) -> bool:
    """The present candidate failed these checks on some tree: not worth guessing trees for any more."""
    return any(
        v.gate == "checks" and not v.yes and v.candidate == ledger.candidate and v.key == key for v in ledger.verdicts
    )


def _note(ledger: Ledger, _entry: Entry) -> Ledger:
    return ledger


def _program(ledger: Ledger, entry: Entry) -> Ledger:
    """What attempts, gates and landings have in common, then what is theirs."""
    opening, role = entry.opening, entry.opening.role
    if entry.started and entry.opening.kind == "gate":
        ledger = ledger._replace(judged=True)
    if entry.started and role:
        ledger = ledger._replace(tries={**ledger.tries, role: ledger.tries.get(role, 0) + 1})
    outcome = entry.outcome
    if outcome is None:
        apart = opening.kind == "gate" and role
        return ledger._replace(reviews=(*ledger.reviews, entry)) if apart else ledger._replace(open=entry)
    ledger = _costs(ledger, entry, outcome)
    if (outcome.children or outcome.proposals) and not entry.spawned:
        ledger = ledger._replace(spawn=(*ledger.spawn, entry.number))
    if opening.kind == "attempt":
        ledger = _sessions(ledger, entry, outcome)
    if opening.kind == "attempt" and (outcome.class_ in ("ok", "task") or outcome.began):
        # It got as far as its agent, so the worktree is at its work; what changes no files was given a clean one.
        ledger = ledger._replace(judged=opening.produces not in ("", "commits"))
    ledger = ledger._replace(setbacks=ledger.setbacks + 1 if outcome.class_ == "environment" else 0)
    if outcome.verdict:
        return _verdict(ledger, entry, outcome)
    if not entry.started and outcome.class_ != "ok":
        return ledger
    if outcome.class_ == "ok":
        return _success(ledger, entry, outcome)
    return _failure(ledger, entry, outcome)


def _costs(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    if outcome.usage.usd is not None:
        return ledger._replace(usd=(ledger.usd or 0.0) + outcome.usage.usd)
    if not is_unpriced(entry):
        return ledger
    adapter = entry.opening.adapter
    return ledger._replace(unpriced={**ledger.unpriced, adapter: ledger.unpriced.get(adapter, 0) + 1})


def session_key(agent: str, role: str, adapter: str = "") -> str:
    """Whose session it is: another agent of the same role cannot go on with it, nor can another program."""
    return f"{agent} {adapter} {role}"


def _sessions(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    """Resumed is an agent that asked, with the answer, and one that was cut off by what is nobody's fault.

    Every other attempt begins with a fresh mind; so does one that was cut off the same way again and again.
    """
    opening = entry.opening
    key = session_key(opening.agent, opening.role, opening.adapter)
    if not entry.started:
        return ledger
    others = f" {opening.role}"
    sessions = {one: session for one, session in ledger.sessions.items() if not one.endswith(others)}
    cuts = {one: cut for one, cut in ledger.cuts.items() if not one.endswith(others)}
    if outcome.session and outcome.reason == "question":
        sessions[key] = outcome.session
    elif outcome.session and not outcome.charged:
        way = outcome.class_ and outcome.detail.partition(":")[0]  # without a class somebody wanted it
        before, times = ledger.cuts.get(key, ("", 0))
        times = times + 1 if way and opening.session and way == before else 0
        if times < RESUMED:
            sessions[key], cuts[key] = outcome.session, (way, times)
    return ledger._replace(sessions=sessions, cuts=cuts)


def _success(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    opening = entry.opening
    if opening.kind == "landing":
        return ledger._replace(landed=opening.result_sha) if outcome.verb in ("land", "finish") else ledger
    ledger = _handed_over(ledger, entry, outcome) if outcome.reason == "handoff" else _done(ledger, entry, outcome)
    return ledger._replace(
        children=tuple(dict.fromkeys((*ledger.children, *outcome.children))),
        candidate=outcome.candidate or ledger.candidate,
        base=(opening.base or ledger.base) if outcome.candidate else ledger.base,
        bases=tuple(dict.fromkeys((*ledger.bases, opening.base_sha))) if opening.base_sha else ledger.bases,
        bare=outcome.bare or (ledger.bare and not outcome.candidate),
        stage=outcome.next_stage,
        role=outcome.next_role,
        artifacts={**ledger.artifacts, **dict.fromkeys(outcome.artifacts, entry.number)},
        # What was said was about another version of the documents.
        verdicts=() if outcome.artifacts else ledger.verdicts,
        start_sha=outcome.start_sha,
        policy=outcome.policy or (ledger.policy and outcome.candidate in ("", ledger.candidate)),
        summary=outcome.summary or ledger.summary,
        deaths=0,
        died={},
        rechecks=0,
        retry_at=0.0,
        reason="",
        detail="",
    )


def _done(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    """The entry's stage is done."""
    stage = entry.opening.stage
    commits = entry.opening.produces in ("", "commits")  # not a document that the flow commits
    first = bool(outcome.candidate) and commits and ledger.work not in ledger.stages
    return ledger._replace(
        stages=(*(one for one in ledger.stages if one != stage), stage) if stage else ledger.stages,
        work=stage if first else ledger.work,
        work_role=entry.opening.role if first else ledger.work_role,
        awaiting=stage if outcome.approval else "",
        handoff="",
        conflict=False,
    )


def _handed_over(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    """The stage goes on with another role, which is told what this one found out."""
    note = Feedback(f"{entry.opening.role}, handing over", outcome.feedback or outcome.detail, outcome.ended)
    return ledger._replace(
        handoff=outcome.next_role, handoffs=ledger.handoffs + 1, feedback=(*ledger.feedback, note), conflict=False
    )


def _again(ledger: Ledger, stage: str) -> Ledger:
    """`stage` (where no work was made yet: the last one) and what came after it is to be done again."""
    stage = stage or next(reversed(ledger.stages), "")
    if ledger.awaiting:  # nobody said yes, so nothing of it was made
        ledger = ledger._replace(awaiting="", children=(), spawn=())
    if stage not in ledger.stages:
        return ledger._replace(handoff="")
    role = ledger.work_role if stage == ledger.work else ""
    kept = ledger.stages[: ledger.stages.index(stage)]
    return ledger._replace(stages=kept, stage=stage, role=role, handoff="")


def _failure(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    if (
        not outcome.class_ and not outcome.verb
    ):  # ended because its task went elsewhere: what sent it there is the reason
        return ledger._replace(deaths=0, died={})
    ledger = ledger._replace(
        reason=outcome.reason, detail=outcome.detail, questions=outcome.questions or ledger.questions
    )
    if outcome.charged:
        role = entry.opening.role
        failures = ledger.charged.get(role, 0) + 1
        text = outcome.feedback or outcome.detail
        return ledger._replace(
            charged={**ledger.charged, role: failures},
            deaths=0,
            died={},
            retry_at=outcome.ended + backoff(failures),
            feedback=(*ledger.feedback, Feedback(f"attempt {entry.opening.attempt}", text, outcome.ended)),
        )
    if outcome.class_ == "ours":
        return _died(ledger, entry)
    if outcome.class_ == "environment" and not outcome.breaker:
        return _died(ledger, entry)._replace(retry_at=outcome.ended + ENVIRONMENT_PAUSE)
    return ledger._replace(deaths=0, died={})


def _died(ledger: Ledger, entry: Entry) -> Ledger:
    """One more death in a row of this role. One reboot ends all reviewers of a group: that is one for each of them."""
    who = entry.opening.role or entry.opening.gate or entry.opening.kind
    died = {**ledger.died, who: ledger.died.get(who, 0) + 1}
    return ledger._replace(died=died, deaths=max(died.values()))


def _verdict(ledger: Ledger, entry: Entry, outcome: Outcome) -> Ledger:
    opening = entry.opening
    yes = outcome.verdict == "accept"
    verdict = Verdict(
        gate=opening.gate,
        yes=yes,
        candidate=opening.candidate,
        tree=opening.tree,
        key=opening.key,
        at=outcome.ended,
        by=opening.agent or opening.by,
        entry=entry.number,
        feedback=outcome.feedback,
    )
    again = opening.gate == "checks" and any(
        v.gate == "checks" and v.candidate == opening.candidate for v in ledger.verdicts
    )
    ledger = ledger._replace(deaths=0, died={}, retry_at=0.0, rechecks=ledger.rechecks + (1 if again else 0))
    if not (outcome.verb and _known_no(ledger, verdict)):
        ledger = ledger._replace(verdicts=(*ledger.verdicts, verdict))
    return ledger if yes or not outcome.verb else _refusal(ledger, opening.gate, opening.candidate, outcome)


def _known_no(ledger: Ledger, verdict: Verdict) -> bool:
    """A refusal only draws the consequence of what its gate has said."""
    same = (verdict.gate, verdict.candidate, verdict.tree, False)
    return any((one.gate, one.candidate, one.tree, one.yes) == same for one in ledger.verdicts)


def _refusal(ledger: Ledger, gate: str, candidate: str, outcome: Outcome) -> Ledger:
    return _again(ledger, ledger.work)._replace(
        rounds=ledger.rounds + 1,
        conflict=gate == "merge",
        refused=ledger.refused | {candidate},
        reason=outcome.reason,
        detail=outcome.detail,
        feedback=(*ledger.feedback, Feedback(gate, outcome.feedback or outcome.detail, outcome.ended)),
    )


def _approve(ledger: Ledger, entry: Entry) -> Ledger:
    opening = entry.opening
    if opening.stage:
        said = (Feedback("human", opening.text, opening.at),) if opening.text else ()
        artifacts = {**ledger.artifacts, **dict.fromkeys(opening.artifacts, entry.number)}
        return ledger._replace(awaiting="", retry_at=0.0, feedback=(*ledger.feedback, *said), artifacts=artifacts)
    yes = Verdict("human", True, opening.candidate, "", "", opening.at, opening.by, entry.number, opening.text)
    return ledger._replace(verdicts=(*ledger.verdicts, yes))


def _person_reject(ledger: Ledger, entry: Entry) -> Ledger:
    """About a candidate, or (`stage`) about what a stage left, with the tasks that it asked for."""
    opening = entry.opening
    feedback = (*ledger.feedback, Feedback("human", opening.text, opening.at))
    if opening.stage:
        return _again(_reset(ledger, entry), opening.stage)._replace(feedback=feedback)
    no = Verdict("human", False, opening.candidate, "", "", opening.at, opening.by, entry.number, opening.text)
    return _again(_reset(ledger, entry), ledger.work)._replace(
        verdicts=(*ledger.verdicts, no), refused=ledger.refused | {opening.candidate}, feedback=feedback
    )


def _reset(ledger: Ledger, entry: Entry) -> Ledger:
    """A person's word: budgets start anew, what was said stays."""
    opening = entry.opening
    ledger = ledger._replace(charged={}, rounds=0, deaths=0, died={}, rechecks=0, retry_at=0.0, handoffs=0)
    ledger = ledger._replace(reason="", detail="", usd_before=ledger.usd or 0.0, unpriced={})
    if opening.text and opening.kind in ("answer", "release", "reopen"):
        ledger = ledger._replace(feedback=(*ledger.feedback, Feedback(opening.kind, opening.text, opening.at)))
    if opening.kind == "answer":
        ledger = ledger._replace(questions=())
    if opening.kind == "move" and opening.to == "blocked":
        ledger = ledger._replace(reason="parked", detail="moved into blocked by hand")
    if opening.kind != "reject" and ledger.expected in ("provisional", "done") and opening.to in ("incoming", ""):
        ledger = _again(ledger, ledger.work)
    if ledger.expected == "done" and opening.to != "done":
        refused = ledger.refused | {ledger.candidate}
        ledger = ledger._replace(landed="", candidate="", start_sha="", policy=False, refused=refused)
    return ledger


def _block(ledger: Ledger, entry: Entry) -> Ledger:
    outcome = entry.outcome
    return ledger if outcome is None else ledger._replace(reason=outcome.reason, detail=outcome.detail)


def _say(ledger: Ledger, entry: Entry) -> Ledger:
    opening = entry.opening
    return ledger._replace(feedback=(*ledger.feedback, Feedback("person", opening.text, opening.at)))


def _attached(ledger: Ledger, entry: Entry) -> Ledger:
    """A person worked in the worktree, whatever a gate had put there before: the next attempt goes on from theirs."""
    ledger = _say(ledger, entry) if entry.opening.text else ledger
    return ledger._replace(judged=False)


def _moves(ledger: Ledger, entry: Entry) -> Ledger:
    """Where the entries say that the file is, and a verb that lacks its `moved-…`."""
    if "claimed" in entry.moved:
        ledger = ledger._replace(expected="claimed")
    if entry.opening.kind == "move":
        ledger = ledger._replace(expected=entry.opening.to)
    outcome = entry.outcome
    if outcome is None or not outcome.verb:
        return ledger
    if entry.is_moved:
        return ledger._replace(expected=outcome.enters, unmoved=None)
    return ledger._replace(unmoved=entry)


_STEPS: dict[str, Callable[[Ledger, Entry], Ledger]] = {
    "attempt": _program,
    "gate": _program,
    "landing": _program,
    "finish": _program,
    "approve": _approve,
    "reject": _person_reject,
    "answer": _reset,
    "release": _reset,
    "reopen": _reset,
    "move": _reset,
    "block": _block,
    "say": _say,
    "attach": _attached,
}


class Spending(NamedTuple):
    """What attempts cost: US dollars that are known, and adapter → attempts whose cost is not."""

    usd: float = 0.0
    unknown: Mapping[str, int] = {}


def is_paid(entry: Entry) -> bool:
    """An agent was started in it, and it is over."""
    return entry.started and bool(entry.opening.role) and entry.outcome is not None


def is_unpriced(entry: Entry) -> bool:
    """Nobody knows what it cost. An environment failure of which no usage is told cost nothing: no model answered."""
    if entry.outcome is None or not is_paid(entry) or entry.outcome.usage.usd is not None:
        return False
    used = entry.outcome.usage
    silent = not used.input_tokens and not used.output_tokens
    return not (silent and entry.outcome.class_ == "environment")


def spending(entries: Iterable[Entry], since: float) -> dict[str, Spending]:
    """By role: the cost of the entries that ended at or after `since` (seconds since the epoch)."""
    found: dict[str, Spending] = {}
    for entry in entries:
        if entry.outcome is None or not is_paid(entry) or entry.outcome.ended < since:
            continue
        opening, known = entry.opening, found.get(entry.opening.role, Spending())
        unknown = known.unknown
        if is_unpriced(entry):
            unknown = {**unknown, opening.adapter: unknown.get(opening.adapter, 0) + 1}
        found[opening.role] = Spending(known.usd + (entry.outcome.usage.usd or 0.0), unknown)
    return found
