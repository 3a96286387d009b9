"""From what a run left behind to its Outcome and the move it means. Pure: facts first, then the agent's word, no prose.

Failures are three (DESIGN §5): ours (charge nobody), environment (back off, breaker, charge nobody), task (charge the
attempt, feed back).
"""

from __future__ import annotations

from typing import NamedTuple

from octopoid.adapters.base import Reading
from octopoid.evidence import Exit, Facts, StepExit
from octopoid.model import Ledger, Opening, Outcome, Result, Usage
from octopoid.plans import Refuse
from octopoid.settings import Limits

ENVIRONMENT_STATUS = 75
CONTAINMENT_STATUS = 78
_BUILT_IN = ("worktree", "checkout", "commit", "restore")
"""Our own steps: they fail by their status. A signal to one is nobody's fault (LESSONS 33)."""

PARK = "park"
"""What `stop ID` writes into an entry's `stop` file: the task is parked when its attempt has ended."""

_OWN_FAULT = ("commit", "check")
"""Steps whose failing is the work's own fault: the user's commit hook, and (as `check:…`) the checks."""


class Remains(NamedTuple):
    """Everything a finished run left. `exit` None: its supervisor died. `stop`: why somebody ended it, if so.

    `tail`: the end of what the first failing step printed. `word`: the agent's result; `garbled`: why it is unreadable.
    """

    exit: Exit | None
    facts: Facts
    reading: Reading | None
    word: Result
    garbled: str
    tail: str
    stop: str
    started: bool


def judge(opening: Opening, remains: Remains, ledger: Ledger, limits: Limits, now: float) -> Outcome:
    """How an attempt or a gate ended, with the move it carries. `ledger` is that before this entry was closed."""
    if opening.kind == "attempt":
        return _move_attempt(_attempt(opening, remains, ledger, now), opening, ledger, limits)
    judged = _checks(opening, remains, now) if opening.gate == "checks" else _review(opening, remains, now)
    return _move_gate(judged, opening, ledger, limits)


def refusal(refuse: Refuse, ledger: Ledger, limits: Limits, now: float) -> Outcome:
    """A no without a run of its own: a conflict (gate `merge`), or an answer that is known already."""
    outcome = Outcome(
        "gate",
        "task",
        False,
        "rejected",
        refuse.detail,
        now,
        candidate=ledger.candidate,
        verdict="reject",
        feedback=refuse.feedback,
    )
    return _refused(outcome, refuse.gate, ledger, limits)


def _attempt(opening: Opening, remains: Remains, ledger: Ledger, now: float) -> Outcome:
    early = _cut_short(opening, remains, now)
    if early is not None:
        return early
    facts, word = remains.facts, remains.word
    base = Outcome(
        opening.kind,
        "ok",
        False,
        "",
        word.summary,
        now,
        start_sha=facts.start_sha,
        base_sha=opening.base_sha,
        candidate=facts.head,
        summary=word.summary,
        policy=facts.policy,
        usage=_usage(remains),
    )
    if word.outcome in ("question", "handoff"):
        questions = word.questions or (word.summary or word.feedback or f"hand over to {word.handoff_to}?",)
        detail = (
            questions[0] if word.outcome == "question" else f"wants to hand over to {word.handoff_to or 'somebody'}"
        )
        return base._replace(class_="task", reason="question", detail=detail, questions=questions, candidate="")
    failure = _failure(remains, ledger)
    if failure:
        return base._replace(class_="task", charged=True, reason="failed", detail=failure[0], feedback=failure[1])
    return base


def _failure(remains: Remains, ledger: Ledger) -> tuple[str, str] | None:
    """(sentence, feedback) when a run that ended by itself still failed."""
    facts, word, exit_ = remains.facts, remains.word, remains.exit
    failed = exit_.failed if exit_ else None
    if word.outcome == "failed":
        text = word.feedback or word.summary or "the agent gave up"
        return text.splitlines()[0], text
    if word.outcome in ("accept", "reject"):
        return f"a {word.outcome} is a reviewer's word, not a worker's", ""
    if remains.garbled:
        return f"the result file cannot be read: {remains.garbled}", remains.garbled
    if failed is not None and failed.name == "commit":
        return "its work could not be committed", f"Committing your work failed:\n\n{remains.tail}"
    if facts.orphan:
        return "its commits have no history in common with the base branch", "Work on top of the base branch."
    if word.outcome != "done" and (facts.tree == facts.merge_base_tree or facts.head in ledger.refused):
        denied = remains.reading.detail if remains.reading else ""
        return "no changes" + (f" ({denied})" if denied else ""), (
            "Your last attempt ended without a new commit or change, so there was nothing to judge. " + denied
        )
    return None


def _cut_short(opening: Opening, remains: Remains, now: float) -> Outcome | None:
    """Every end at which the agent's own word does not count."""
    exit_ = remains.exit
    cut = exit_ is None or exit_.stopped or exit_.failed is not None  # else it was finished before the stop arrived
    if remains.stop and cut:
        return _end(opening, remains, now, "", remains.stop, reason="stopped")
    if exit_ is not None and exit_.stopped:
        return _end(opening, remains, now, "ours", "stopped by a signal that octopoid did not send")
    if not remains.started:
        return _end(opening, remains, now, "", "never started", reason="stopped")
    if exit_ is None:
        return _end(opening, remains, now, "ours", "runner died")
    failed = exit_.failed
    if failed is None:
        return None
    if failed.status == CONTAINMENT_STATUS:
        detail = f"its worktree is not what it should be: {_last_line(remains.tail)}"
        return _end(opening, remains, now, "ours", detail)
    if failed.name in _BUILT_IN and failed.signal is not None:
        detail = f"its step {failed.name} was killed by signal {failed.signal} that octopoid did not send"
        return _end(opening, remains, now, "ours", detail)
    if failed.name == "agent":
        return _agent_end(failed, opening, remains, now)
    if failed.name.partition(":")[0] in _OWN_FAULT and failed.status != ENVIRONMENT_STATUS:
        return None
    detail = f"{failed.name} failed: {_last_line(remains.tail) or _how(failed)}"
    breaker = f"agent:{opening.agent}" if opening.agent else ""
    return _end(opening, remains, now, "environment", detail, breaker=breaker)


def _agent_end(failed: StepExit, opening: Opening, remains: Remains, now: float) -> Outcome | None:
    """The agent's program did not end well. None where its word explains it."""
    reading, breaker = remains.reading, f"agent:{opening.agent}"
    if failed.ended_by in ("timeout", "silence"):
        return _end(opening, remains, now, "task", f"ended after {_how(failed)}", charged=True)
    if failed.ended_by == "missing":
        detail = failed.detail or "its program is missing"
        return _end(opening, remains, now, "environment", detail, breaker=breaker)
    if reading is not None and reading.class_ == "environment":
        return _end(opening, remains, now, "environment", reading.detail, breaker=breaker)
    if remains.word.outcome in ("question", "handoff", "failed"):
        return None
    if failed.signal is not None:
        detail = f"killed by signal {failed.signal} that octopoid did not send"
        return _end(opening, remains, now, "ours", detail)
    detail = _first_word(reading, failed)
    return _end(opening, remains, now, "task", detail[:300], charged=True)


def _first_word(reading: Reading | None, failed: StepExit) -> str:
    """One sentence. What a program printed last says more than what it printed first; an adapter's own word begins."""
    said = [line for line in (reading.detail if reading else "").splitlines() if line.strip()]
    if not said:
        return f"exit status {failed.status}"
    if reading is not None and reading.reason == f"exit status {failed.status}":  # `by_status`: the end of the output
        return f"{reading.reason}: {said[-1].strip()}"
    return said[0]


def _end(
    opening: Opening,
    remains: Remains,
    now: float,
    class_: str,
    detail: str,
    *,
    charged: bool = False,
    breaker: str = "",
    reason: str = "failed",
) -> Outcome:
    return Outcome(
        opening.kind,
        class_,
        charged,
        reason,
        detail,
        now,
        start_sha=remains.facts.start_sha,
        base_sha=opening.base_sha,
        feedback=f"{detail}\n\n{remains.tail}".strip() if charged else "",
        breaker=breaker,
        usage=_usage(remains),
    )


def _checks(opening: Opening, remains: Remains, now: float) -> Outcome:
    """All commands ended with 0: yes. One did not: no, with the end of what it printed."""
    early = _cut_short(opening, remains, now)
    if early is not None:
        return early
    failed = remains.exit.failed if remains.exit else None
    answer = Outcome("gate", "ok", False, "", "every check passed", now, candidate=opening.candidate, verdict="accept")
    ran = {step.name.removeprefix("check:") for step in remains.exit.steps} if remains.exit else set()
    if failed is None and not set(opening.checks) <= ran:
        return _end(opening, remains, now, "ours", f"did not run: {', '.join(sorted(set(opening.checks) - ran))}")
    if failed is None:
        return answer
    name = failed.name.removeprefix("check:")
    detail = f"{name}: {_how(failed)}"
    feedback = f"`{name}` failed on the tree that would land ({_how(failed)}):\n\n{remains.tail}"
    return answer._replace(class_="task", reason="rejected", detail=detail, verdict="reject", feedback=feedback)


def _review(opening: Opening, remains: Remains, now: float) -> Outcome:
    """A reviewer's verdict. No word is no verdict, never a yes (LESSONS 36)."""
    early = _cut_short(opening, remains, now)
    if early is not None:
        return early
    word = remains.word
    answer = Outcome("gate", "ok", False, "", word.summary, now, candidate=opening.candidate, usage=_usage(remains))
    if word.outcome == "accept":
        return answer._replace(verdict="accept", feedback=word.feedback, summary=word.summary)
    if word.outcome == "reject":
        findings = "\n".join(f"- {one.file}:{one.line}: {one.severity}: {one.message}" for one in word.findings)
        feedback = "\n\n".join(part for part in (word.feedback or word.summary, findings) if part)
        detail = (feedback or "no reason given").splitlines()[0][:300]
        return answer._replace(class_="task", reason="rejected", verdict="reject", detail=detail, feedback=feedback)
    detail = remains.garbled or f"no verdict (outcome {word.outcome or 'missing'})"
    return answer._replace(class_="task", charged=True, reason="failed", detail=f"{opening.gate}: {detail}")


def _move_attempt(outcome: Outcome, opening: Opening, ledger: Ledger, limits: Limits) -> Outcome:
    """The move an attempt's end means: submit, retry, or block at the cap."""
    carried = outcome._replace(leaves="claimed")
    if outcome.class_ == "ok":
        return carried._replace(verb="submit", enters="provisional")
    if outcome.reason == "question":
        return carried._replace(verb="block", enters="blocked")
    if outcome.reason == "stopped" and outcome.detail == PARK:
        return carried._replace(verb="block", enters="blocked", reason="parked", detail="stopped by a person")
    failures = ledger.charged.get(opening.role, 0) + 1
    if outcome.charged and failures >= limits.attempts:
        detail = f"{failures} attempts failed, the last one: {outcome.detail}"
        return carried._replace(verb="block", enters="blocked", detail=detail)
    return carried._replace(verb="retry", enters="incoming")


def _move_gate(outcome: Outcome, opening: Opening, ledger: Ledger, limits: Limits) -> Outcome:
    """The move a gate's end means. The checks carry none: their answer is about a tree, and plan decides."""
    if outcome.verdict == "reject" and opening.gate != "checks":
        return _refused(outcome, opening.gate, ledger, limits)
    if outcome.reason == "stopped" and outcome.detail == PARK:
        parked = outcome._replace(reason="parked", detail="stopped by a person")
        return parked._replace(verb="block", leaves="provisional", enters="blocked")
    failures = ledger.charged.get(opening.role, 0) + 1
    if outcome.charged and failures >= limits.attempts:
        detail = f"{opening.gate} gave no verdict {failures} times, the last time: {outcome.detail}"
        return outcome._replace(detail=detail, verb="block", leaves="provisional", enters="blocked")
    return outcome


def _refused(outcome: Outcome, gate: str, ledger: Ledger, limits: Limits) -> Outcome:
    """Back with the feedback, or to a person after the last round."""
    carried = outcome._replace(leaves="provisional")
    rounds = ledger.rounds + 1
    if rounds < limits.rounds:
        return carried._replace(verb="reject", enters="incoming")
    reason = "conflict" if gate == "merge" else "rejected"
    detail = f"refused {rounds} times, the last time by {gate}: {outcome.detail}"
    return carried._replace(verb="block", enters="blocked", reason=reason, detail=detail)


def _usage(remains: Remains) -> Usage:
    """What the agent says in its result, else what the adapter read."""
    told = remains.word.usage
    return told if told != Usage() else (remains.reading.usage if remains.reading else told)


def _how(step: StepExit) -> str:
    if step.ended_by == "timeout":
        return "its time limit"
    if step.ended_by == "silence":
        return "too long without any output"
    if step.signal is not None:
        return f"signal {step.signal}"
    return step.detail or f"exit status {step.status}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
