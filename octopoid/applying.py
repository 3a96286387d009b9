"""Doing what a plan says: one function per action, a table, and an edge at which one task's trouble stops."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import (
    breakdown,
    closing,
    gates,
    git,
    journal,
    landing,
    launching,
    lifecycle,
    locks,
    merging,
    sections,
    spawning,
    steps,
    store,
    worktrees,
)
from octopoid.errors import REFUSALS, LostRace, OctopoidError
from octopoid.layout import Layout
from octopoid.look import Look, Observer
from octopoid.model import Entry, Item
from octopoid.observing import Surveyor
from octopoid.plans import (
    Action,
    Block,
    Close,
    End,
    Finish,
    GiveBack,
    Heal,
    Land,
    MakeBase,
    NoteMove,
    Refuse,
    Release,
    Spawn,
    Start,
    StartChecks,
    StartProbe,
    StartReview,
    TakeBranch,
)
from octopoid.settings import Config
from octopoid.states import SATISFYING, State

STUMBLE = 30.0
"""Seconds that a task is left alone after an action on it raised an error."""

HOPELESS = 3
"""After so many errors in a row `run --until-empty` does not wait for a task any more."""

SHORTLY = 1.0
"""Seconds until an action that somebody else was faster than, or that takes its time, is looked at again."""

LANDING_RETRY = 3.0
"""Seconds between tries to land on a checkout that is not free."""


class Moment(NamedTuple):
    """What an action is applied to. `now`: seconds since the epoch."""

    look: Look
    config: Config
    now: float


class Hands:
    """Applies actions. Remembers only what spares work: idle worktrees, tasks to leave alone for a moment."""

    def __init__(
        self,
        layout: Layout,
        env: Mapping[str, str],
        observer: Observer,
        surveyor: Surveyor,
        say: Callable[[str], None],
    ) -> None:
        self.layout = layout
        self.env = env
        self.observer = observer
        self.surveyor = surveyor
        self.say = say
        self.children: set[int] = set()
        self.landing_retry: dict[str, float] = {}
        self._later: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._idle: list[Path] | None = None
        self._hooks: Path | None = None
        self._said: dict[str, str] = {}

    def may(self, action: Action, now: float) -> bool:
        """The action's task is not being left alone at the moment."""
        return self._later.get(action.task, 0.0) <= now

    def wait_until(self, now: float) -> float:
        """When the first task that is left alone is looked at again; 0 when there is none."""
        self._later = {task: until for task, until in self._later.items() if until > now}
        return min(self._later.values(), default=0.0)

    def apply(self, action: Action, at: Moment) -> None:
        """Do one action. With the command line, the only edge at which anything is caught: one task's trouble, or a
        bug about it, must not stop the others.
        """
        try:
            _ACTIONS[type(action)](self, action, at)
            self._failures.pop(action.task, None)
        except LostRace as error:
            self._stumble(action, at, error.message, SHORTLY)
        except OctopoidError as error:
            self._stumble(action, at, error.message)
        except Exception as error:  # noqa: BLE001 - the edge: see above
            if isinstance(error, OSError) and error.errno in REFUSALS:
                self._stumble(action, at, f"the disk refuses: {error}")
                return
            what = type(action).__name__
            self._stumble(action, at, f"{what} failed; this is a bug in octopoid\n{traceback.format_exc()}")

    def _stumble(self, action: Action, at: Moment, what: str, pause: float = STUMBLE) -> None:
        failures = self._failures.get(action.task, 0) + 1
        self._failures[action.task] = failures
        self._later[action.task] = at.now + min(STUMBLE, pause * failures)
        self.say(f"{action.task}: {what}")

    def hopeless(self, action: Action) -> bool:
        """The action failed so often in a row that nobody should wait for it; it is still tried."""
        return self._failures.get(action.task, 0) >= HOPELESS

    def _heal(self, action: Heal, at: Moment) -> None:
        item = _item(at, action.task)
        if item.ledger.unmoved is not None:
            lifecycle.heal(self.layout, item.id, item.state, item.ledger.unmoved, at.now)
        else:
            store.put_back(self.layout, item.id, item.state)

    def _note_move(self, action: NoteMove, at: Moment) -> None:
        lifecycle.note_move(self.layout, action.task, action.leaves, action.enters, at.now)

    def _give_back(self, action: GiveBack, at: Moment) -> None:
        if action.leaves is State.CLAIMED and not closing.end_forgotten(self.layout, action.task):
            self._later[action.task] = at.now + SHORTLY
            return
        lifecycle.give_back(self.layout, action.task, action.leaves, action.detail, at.now)

    def _close(self, action: Close, at: Moment) -> None:
        item = _item(at, action.task)
        entry = _open(item, action.entry)
        if entry.opening.kind == "landing":
            self._landed(item, landing.resume(self.layout, item, entry, at.now, drop=action.drop), at)
            return
        self.surveyor.spent(item.id)
        outcome = closing.close(self.layout, item, entry, closing.Premises(at.config, self.env), at.look.ids, at.now)
        if outcome is None:
            self._later[item.id] = at.now + SHORTLY
            self.say(f"{item.id}: something of its last attempt still runs and is being ended")
            return
        who = entry.opening.gate or entry.opening.agent or entry.opening.kind
        what = _ENDINGS.get(outcome.verdict or outcome.verb) or outcome.reason or "ended"
        detail = outcome.detail.splitlines()[0] if outcome.detail.strip() else ""
        self.say(f"{item.id}: {who}: {what}" + (f": {detail}" if detail else ""))

    def _end(self, action: End, at: Moment) -> None:
        item = at.look.get(action.task)
        ledger = item.ledger if item else self.observer.ledger(action.task)
        opened = (*((ledger.open,) if ledger.open else ()), *ledger.reviews)
        entry = next((one for one in opened if action.entry in (0, one.number)), None)
        if entry is None:
            return
        self._later[action.task] = at.now + SHORTLY
        if locks.is_held(self.layout.entry(action.task, entry.number) / "lock") or item is not None:
            closing.end(self.layout, action.task, entry, action.detail, action.gently)
        else:
            state = at.look.ids.get(action.task)
            self.surveyor.spent(action.task)
            where = state.value if state else "nowhere"
            closing.close_stray(self.layout, action.task, entry, where, at.config, at.now)

    def _refuse(self, action: Refuse, at: Moment) -> None:
        closing.refuse(self.layout, _item(at, action.task), action, at.config, at.now)
        self.say(f"{action.task}: refused by {action.gate}: {action.detail}")

    def _start_checks(self, action: StartChecks, at: Moment) -> None:
        item = _item(at, action.task)
        started = launching.start_checks(self._site(at), item, action.checks, action.projection, at.now)
        self.children.add(started.pid)
        self.say(f"{item.id}: checks started")

    def _start_review(self, action: StartReview, at: Moment) -> None:
        item = _item(at, action.task)
        site = self._site(at)
        own = site.worktree(worktrees.apart(item.id, action.gate)) if action.apart else site.worktree(item.id)
        started = launching.start_review(site, item, action, None if own.exists() else self._take_idle(at), at.now)
        self.children.add(started.pid)
        self.say(f"{item.id}: {action.gate} started")

    def _land(self, action: Land, at: Moment) -> None:
        item = _item(at, action.task)
        self._follow(item, at)
        if self._hooks_run(action.base):
            begun, opening = landing.begin(self.layout, item, action.base, action.projection, at.now, locked=True)
            self.children.add(launching.start_landing(self._site(at), item, begun, opening).pid)
        else:
            self._landed(item, landing.land(self.layout, item, action.base, action.projection, at.now), at)

    def _follow(self, item: Item, at: Moment) -> None:
        """What comes after its landing is made before it: a kill afterwards would leave nobody who remembers."""
        flow = gates.flow_of(item.task, at.config) if item.task else None
        for task in spawning.follow(self.layout, item, flow, at.now):
            self.say(f"{task}: follows {item.id}")

    def _hooks_run(self, base: str) -> bool:
        """Moving `base` runs hooks of the user's, which may take longer than a look may wait."""
        if self._hooks is None:
            self._hooks = git.hooks_dir(self.layout.root)
        theirs = any(not place.ours for place in git.checkouts(self.layout.root, base))
        return theirs and git.hooks_run_on_landing(self._hooks)

    def _landed(self, item: Item, landed: landing.Landed, at: Moment) -> None:
        self.landing_retry.pop(item.id, None)
        if landed.done:
            self._free_worktree(item.id, at)
            self.say(f"{item.id}: landed")
        elif landed.waits:
            self.landing_retry[item.id] = at.now + LANDING_RETRY
            if self._said.get(item.id) != landed.waits:
                self.say(f"{item.id}: landing waits: {landed.waits}")
            self._said[item.id] = landed.waits

    def _finish(self, action: Finish, at: Moment) -> None:
        if action.publish:
            self._follow(_item(at, action.task), at)
        landing.finish(self.layout, _item(at, action.task), action.detail, action.publish, at.now)
        self._free_worktree(action.task, at)
        self.say(f"{action.task}: done: {action.detail}")

    def _block(self, action: Block, at: Moment) -> None:
        lifecycle.block(self.layout, action.task, action.leaves, action.reason, action.detail, at.now)
        self.say(f"{action.task}: blocked ({action.reason}): {action.detail}")

    def _release(self, action: Release, at: Moment) -> None:
        item = _item(at, action.task)
        lifecycle.answer(self.layout, item.id, sections.answers(store.seen(item.path)), at.now)
        self.say(f"{item.id}: answered")

    def _start(self, action: Start, at: Moment) -> None:
        item, site = _item(at, action.task), self._site(at)
        reuse = None if site.worktree(item.id).exists() else self._take_idle(at)
        started = launching.start_attempt(site, item, action, reuse, at.now)
        self.children.add(started.pid)
        what = "" if action.role == action.agent.name else f" as {action.role}"
        self.say(f"{item.id}: {action.agent.name} started{what} (attempt {started.attempt})")

    def _start_probe(self, action: StartProbe, at: Moment) -> None:
        item, site = _item(at, action.task), self._site(at)
        reuse = None if site.worktree(item.id).exists() else self._take_idle(at)
        self.children.add(launching.start_probe(site, item, action, reuse, at.now).pid)
        self.say(f"{item.id}: its own commands run on {action.base.name}; one must fail")

    def _take_branch(self, action: TakeBranch, at: Moment) -> None:
        launching.take_branch(self._site(at), _item(at, action.task), action, at.now)
        self.say(f"{action.task}: takes up commit {action.candidate[:12]}")

    def _make_base(self, action: MakeBase, at: Moment) -> None:
        if merging.make_branch(self.layout.root, action.name, action.sha):
            event = journal.Event(at.now, "branch", action.task, detail=f"{action.name} at {action.sha}")
            journal.append(self.layout, event)
            self.say(f"{action.task}: made branch {action.name}")

    def _spawn(self, action: Spawn, at: Moment) -> None:
        opened = sum(1 for item in at.look.items if item.state is State.BLOCKED and _is_proposal(item))
        room = at.config.limits.proposals - opened
        for made in spawning.spawn(self.layout, action.task, action.entry, room, at.now):
            how = "proposed, waits for you; noticed in" if made.proposal else "made, a part of"
            self.say(f"{made.id}: {how} {action.task}")

    def _site(self, at: Moment) -> steps.Site:
        return steps.Site(self.layout, at.config, self.env)

    def _take_idle(self, at: Moment) -> Path | None:
        """A worktree of a task that landed, for the next task; the list is made once and kept."""
        if not at.config.worktrees.reuse:
            return None
        if self._idle is None:
            folder = steps.worktrees_folder(self.layout, at.config)
            self._idle = [folder / name for name in store.durable_names(folder)]
        while self._idle:
            path = self._idle.pop()
            if path.is_dir() and self._is_idle(worktrees.owner(path.name), at.look):
                return path
        return None

    def _is_idle(self, task: str, look: Look) -> bool:
        """Landed, and nothing of it is unfinished. A task that a person moved into done may have unlanded work."""
        ledger = self.observer.ledger(task)
        clean = ledger.open is None and ledger.unmoved is None
        return clean and ledger.expected == "done" and look.ids.get(task) in (*SATISFYING, State.PROVISIONAL)

    def _free_worktree(self, task: str, at: Moment) -> None:
        folder = steps.worktrees_folder(self.layout, at.config)
        for path in [folder / name for name in store.durable_names(folder) if worktrees.owner(name) == task]:
            if worktrees.is_attached(self.layout.root, path):
                continue  # it stays for `clean`
            if not at.config.worktrees.reuse:
                worktrees.remove(self.layout.root, path)
            elif self._idle is not None:
                self._idle.append(path)


_ENDINGS = {
    "submit": "finished, on to the gates",
    "advance": "done with its stage",
    "retry": "back to incoming",
    "reject": "said no",
    "accept": "said yes",
    "block": "blocked, needs you",
}
"""What the end of a run means, for people."""


def _item(at: Moment, task: str) -> Item:
    item = at.look.get(task)
    if item is None:
        raise LostRace(f"{task} is not in the queue any more")
    return item


def _open(item: Item, number: int) -> Entry:
    """The reviewer's entry of this number, or (0) the one that has the worktree."""
    entry = next((one for one in item.ledger.reviews if one.number == number), None) if number else item.ledger.open
    if entry is None:
        raise LostRace(f"{item.id} has nothing open any more")
    return entry


def _is_proposal(item: Item) -> bool:
    return item.task is not None and breakdown.PROPOSAL in item.task.labels


_ACTIONS: Mapping[type, Callable[..., None]] = {
    Heal: Hands._heal,
    NoteMove: Hands._note_move,
    GiveBack: Hands._give_back,
    Close: Hands._close,
    End: Hands._end,
    Refuse: Hands._refuse,
    StartChecks: Hands._start_checks,
    StartReview: Hands._start_review,
    Land: Hands._land,
    Finish: Hands._finish,
    Block: Hands._block,
    Release: Hands._release,
    Start: Hands._start,
    StartProbe: Hands._start_probe,
    TakeBranch: Hands._take_branch,
    MakeBase: Hands._make_base,
    Spawn: Hands._spawn,
}
