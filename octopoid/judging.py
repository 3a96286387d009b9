"""From what a run left behind to its Outcome and the move it means. Pure: facts first, then the agent's word, no prose.

Failures are three (DESIGN §5): ours (charge nobody), environment (back off, breaker, charge nobody), task (charge the
attempt, feed back).
"""

from __future__ import annotations

from octopoid.adapters.base import NOT_STARTED, Reading
from octopoid.deliverables import Frame, Lack, Remains, lack, unfit
from octopoid.evidence import StepExit
from octopoid.model import Finding, Ledger, Opening, Outcome, Result
from octopoid.plans import Refuse
from octopoid.results import bounded

ENVIRONMENT_STATUS = 75
CONTAINMENT_STATUS = 78
_BUILT_IN = ("worktree", "checkout", "commit", "restore")
"""Our own steps: they fail by their status. A signal to one is nobody's fault (LESSONS 33)."""

PRE_CHECK, NOTHING_TO_DO = "pre_check", 1
"""The step that tells cheaply whether a role has anything to do, and its exit status when it has not."""

BUDGET = "budget"
"""Why a program ended itself that may spend no more, in an adapter's words; and why a task is blocked."""

PARK = "park"
"""What `stop ID` writes into an entry's `stop` file: the task is parked when its attempt has ended."""

_OWN_FAULT = ("commit", "check")
"""Steps whose failing is the work's own fault: the user's commit hook, and (as `check:…`) the checks."""


def judge(opening: Opening, remains: Remains, ledger: Ledger, frame: Frame, now: float) -> Outcome:
    """How an attempt or a gate ended, with the move it carries. `ledger` is that before this entry was closed."""
    if opening.kind == "attempt":
        if remains.facts.seized:
            return _seized(opening, remains, now)
        ended = _probe(opening, remains, now) if opening.checks else _attempt(opening, remains, ledger, frame, now)
        return _move_attempt(ended, opening, ledger, frame)
    judged = _checks(opening, remains, now) if opening.gate == "checks" else _review(opening, remains, now)
    return _move_gate(judged, opening, ledger, frame)


def refusal(refuse: Refuse, ledger: Ledger, rounds: int, now: float) -> Outcome:
    """Back to be worked on again: what the gates said, a conflict (gate `merge`), or an answer that is known already.

    `rounds`: after so many of them a person is asked.
    """
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
        leaves="provisional",
    )
    if ledger.rounds + 1 < rounds:
        return outcome._replace(verb="reject", enters="incoming")
    reason = "conflict" if refuse.gate == "merge" else "rejected"
    detail = f"refused {ledger.rounds + 1} times, the last time by {refuse.gate}: {refuse.detail}"
    return outcome._replace(verb="block", enters="blocked", reason=reason, detail=detail)


def _attempt(opening: Opening, remains: Remains, ledger: Ledger, frame: Frame, now: float) -> Outcome:
    early = _cut_short(opening, remains, now)
    if early is not None:
        return early if early.charged else early._replace(session=remains.session)
    facts, word = remains.facts, remains.word
    base = Outcome(
        opening.kind,
        "ok",
        False,
        "",
        word.summary + _thrown_away(remains),
        now,
        start_sha=facts.start_sha,
        base_sha=opening.base_sha,
        candidate=facts.head,
        summary=word.summary,
        policy=facts.policy,
        artifacts=remains.documents,
    )
    if _nothing_to_do(remains):
        return base._replace(detail="nothing to do, said its pre_check")
    if word.outcome == "question":
        session = remains.reading.session if remains.reading else ""
        asked = base._replace(class_="task", reason="question", detail=word.questions[0], questions=word.questions)
        return asked._replace(candidate="", artifacts=(), session=session)
    missing = unfit(facts)
    if missing is None and word.outcome == "handoff":
        missing = _cannot_hand_over(opening, word, ledger, frame)
    if word.outcome == "handoff" and missing is None:
        told = f"hands over to {word.handoff_to}" + (f": {word.summary}" if word.summary else "")
        base = base._replace(candidate=facts.head if facts.commits else "", feedback=word.feedback or told)
        return base._replace(reason="handoff", next_role=word.handoff_to, detail=told)
    missing = missing or lack(opening, remains, ledger, frame)
    if missing:
        failed = base._replace(class_="task", charged=True, reason="failed", detail=missing.detail, artifacts=())
        return failed._replace(feedback=missing.feedback)
    if opening.produces == "verdict":
        return base._replace(artifacts=tuple(dict.fromkeys((*remains.documents, opening.artifact))))
    if frame.returns_to:
        return base._replace(reason="handoff", next_role=frame.returns_to, feedback=word.feedback or word.summary)
    return base


def _seized(opening: Opening, remains: Remains, now: float) -> Outcome:
    """It put its own commits on the base branch before anybody judged them. Only a person can say what is to be done.

    Nothing else lands on that base until they did (`projecting`).
    """
    before, after = opening.base_sha[:12], remains.facts.seized[:12]
    detail = (
        f"{opening.base} was moved from {before} to {after}, a commit of this attempt that nobody has judged."
        f" Look: git log {before}..{after}. If it is to stay, move the task to done; if not, set {opening.base} back"
        " first, and then retry. Until then nothing lands there"
    )
    ended = _end(opening, remains, now, "task", detail, reason="failed")
    return ended._replace(verb="block", leaves="claimed", enters="blocked", seized=remains.facts.seized)


def _nothing_to_do(remains: Remains) -> bool:
    failed = remains.exit.failed if remains.exit else None
    return failed is not None and failed.name == PRE_CHECK


def _cannot_hand_over(opening: Opening, word: Result, ledger: Ledger, frame: Frame) -> Lack | None:
    """Why the work cannot go to the role that it is handed to."""
    to = word.handoff_to
    if ledger.handoffs >= frame.limits.handoffs:
        text = (
            f"the work was handed over {ledger.handoffs} times already (limits.handoffs): finish it, or ask a question"
        )
        return Lack(text, text)
    if to in frame.helpers:
        return None
    why = "is its own role" if to == opening.role else "is no role that does work and that an agent plays"
    text = f"it cannot hand over to `{to}`, which {why}; there are: {', '.join(sorted(frame.helpers)) or 'none'}"
    return Lack(text, text)


def _thrown_away(remains: Remains) -> str:
    """What a role changed that may not write: it does not count, and it is not kept quiet (LESSONS 41)."""
    changed = remains.facts.changed
    if not changed:
        return ""
    names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    return f" [what it changed was thrown away: {bounded(names, 300)}]"


def _probe(opening: Opening, remains: Remains, now: float) -> Outcome:
    """The task's own commands before the work: one must fail, or there is nothing to mend."""
    early = _cut_short(opening, remains, now)
    if early is not None:
        return early
    failed = remains.exit.failed if remains.exit else None
    ended = _end(opening, remains, now, "task", "")
    if failed is None:
        text = f"nothing to mend: its commands pass on {opening.base} already ({', '.join(opening.checks)})"
        return ended._replace(detail=text)
    name = failed.name.removeprefix("check:")
    if failed.status in NOT_STARTED or failed.ended_by == "missing":
        return ended._replace(detail=f"{name} cannot run: {_last_line(remains.tail) or _how(failed)}")
    return ended._replace(class_="ok", reason="", detail=f"fails as it should: {name}: {_how(failed)}")


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
        return _unwell(opening, remains, now)
    if failed.name == PRE_CHECK and failed.status == NOTHING_TO_DO:
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


_FACTS_DECIDE = ("bad result", "no result")
"""What an adapter finds where a program (or what is put around it) exits with 0 and does not say how it ended."""


def _unwell(opening: Opening, remains: Remains, now: float) -> Outcome | None:
    """It exited with 0; its records say that it did not come to its end (gemini, opencode), and it left no word."""
    reading = remains.reading
    if reading is None or reading.class_ == "ok" or remains.word.outcome:
        return None
    if reading.class_ == "task" and reading.reason in _FACTS_DECIDE:
        return None
    if reading.class_ == "task":
        return _end(opening, remains, now, "task", _told(reading)[:300], charged=True)
    return _nobodys_fault(reading, opening, remains, now)


def _nobodys_fault(reading: Reading, opening: Opening, remains: Remains, now: float) -> Outcome:
    breaker = (reading.breaker or f"agent:{opening.agent}") if reading.class_ == "environment" else ""
    return _end(opening, remains, now, reading.class_, _told(reading), breaker=breaker)


def _told(reading: Reading) -> str:
    told = reading.detail.startswith(reading.reason)
    return reading.detail if told else f"{reading.reason}: {reading.detail}".removesuffix(": ")


def _agent_end(failed: StepExit, opening: Opening, remains: Remains, now: float) -> Outcome | None:
    """The agent's program did not end well. None where its word explains it."""
    reading = remains.reading
    if reading is not None and reading.class_ == "environment":  # also where time ran out while no model answered
        return _nobodys_fault(reading, opening, remains, now)
    if failed.ended_by in ("timeout", "silence"):
        return _end(opening, remains, now, "task", f"ended after {_how(failed)}", charged=True)
    if reading is not None and reading.class_ == "ours":
        return _nobodys_fault(reading, opening, remains, now)
    if remains.word.outcome in ("question", "handoff", "failed"):
        return None
    if failed.signal is not None:
        detail = f"killed by signal {failed.signal} that octopoid did not send"
        return _end(opening, remains, now, "ours", detail)
    detail, spent = _first_word(reading, failed), reading is not None and reading.reason == BUDGET
    return _end(opening, remains, now, "task", detail[:300], charged=True, reason=BUDGET if spent else "failed")


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
    word, thrown = remains.word, _thrown_away(remains)
    answer = Outcome("gate", "ok", False, "", word.summary + thrown, now, candidate=opening.candidate)
    if word.outcome == "accept":
        remarks = "\n\n".join(part for part in (word.feedback, findings(word)) if part)
        return answer._replace(verdict="accept", feedback=remarks, summary=word.summary)
    if word.outcome == "reject":
        feedback = "\n\n".join(part for part in (word.feedback or word.summary, findings(word)) if part)
        detail = (feedback or "no reason given").splitlines()[0][:300] + thrown
        return answer._replace(class_="task", reason="rejected", verdict="reject", detail=detail, feedback=feedback)
    detail = remains.garbled or f"no verdict (outcome {word.outcome or 'missing'})"
    return answer._replace(class_="task", charged=True, reason="failed", detail=f"{opening.gate}: {detail}")


def _move_attempt(outcome: Outcome, opening: Opening, ledger: Ledger, frame: Frame) -> Outcome:
    """The move an attempt's end means: submit, advance, retry, or block at the cap."""
    carried = outcome._replace(leaves="claimed")
    if outcome.class_ == "ok" and outcome.reason == "handoff":
        return carried._replace(verb="advance", enters="incoming", next_stage=opening.stage)
    if outcome.class_ == "ok" and frame.next_stage:
        stands = carried._replace(next_stage=frame.next_stage, next_role=frame.next_role)
        return stands._replace(verb="advance", enters="incoming", approval=frame.approval)
    if outcome.class_ == "ok":
        # Without commits there is a candidate all the same: what the document, the verdict or the tasks are about.
        candidate = outcome.candidate or ledger.candidate or opening.base_sha
        bare = not outcome.candidate and (ledger.bare or not ledger.candidate)
        submitted = carried._replace(verb="submit", enters="provisional", candidate=candidate, bare=bare)
        return submitted._replace(approval=frame.approval)
    if outcome.reason == "question":
        return carried._replace(verb="block", enters="blocked")
    if outcome.reason == "stopped" and outcome.detail == PARK:
        return carried._replace(verb="block", enters="blocked", reason="parked", detail="stopped by a person")
    failures = ledger.charged.get(opening.role, 0) + 1
    if outcome.charged and failures >= frame.limits.attempts:
        detail = f"{failures} attempts failed, the last one: {outcome.detail}"
        return carried._replace(verb="block", enters="blocked", detail=detail)
    if opening.checks and outcome.class_ == "task":
        return carried._replace(verb="block", enters="blocked")
    return carried._replace(verb="retry", enters="incoming")


def _move_gate(outcome: Outcome, opening: Opening, ledger: Ledger, frame: Frame) -> Outcome:
    """The move a gate's end means: none for an answer, because what follows from all of them is decided by plan."""
    if outcome.reason == "stopped" and outcome.detail == PARK:
        parked = outcome._replace(reason="parked", detail="stopped by a person")
        return parked._replace(verb="block", leaves="provisional", enters="blocked")
    failures = ledger.charged.get(opening.role, 0) + 1
    if outcome.charged and failures >= frame.limits.attempts and frame.required:
        detail = f"{opening.gate} gave no verdict {failures} times, the last time: {outcome.detail}"
        return outcome._replace(detail=detail, verb="block", leaves="provisional", enters="blocked")
    return outcome


def findings(word: Result) -> str:
    """What a reviewer remarked, a line each, with file and line."""
    return "\n".join(f"- {_spot(one)}{one.severity or 'remark'}: {one.message}" for one in word.findings)


def _spot(one: Finding) -> str:
    place = one.file + (f":{one.line}" if one.line else "")
    return f"{place}: " if place else ""


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
