"""What landing would give, computed without a checkout: the trees that the checks must see (DESIGN §8)."""

from __future__ import annotations

from collections.abc import Sequence

from octopoid import gates, git, merging
from octopoid.errors import GitError, OctopoidError
from octopoid.fold import checks_failed_once, checks_verdict
from octopoid.layout import Layout
from octopoid.model import Item, Pauses
from octopoid.order import AHEAD, needs_first_checks, train
from octopoid.plans import Base, Projection
from octopoid.settings import Config
from octopoid.states import State

_KEPT = 256


class Projector:
    """Computes projections and remembers them: a merge of two commits never changes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._known: dict[tuple[str, str, str, str], Projection] = {}
        self._trees: dict[str, str] = {}
        self.trouble: dict[str, str] = {}
        """Tasks whose result git could not compute at the last look, with what it said."""

    def bases(self, items: Sequence[Item], config: Config) -> dict[str, Base]:
        """The base branches that tasks name, where they are, and whether landing on them must wait."""
        names = {name for item in items if item.task for name in _branches(item, config)} | {config.base}
        judged = {base for base, line in train(items, config).items() if line}
        seized = {item.ledger.last.opening.base: item for item in items if _seized(item) and item.ledger.last}
        return {name: self._base(name, name in judged, seized.get(name)) for name in names if name}

    def project(
        self, items: Sequence[Item], config: Config, bases: dict[str, Base], pauses: Pauses, now: float
    ) -> dict[str, Projection]:
        """The projections of the tasks whose turn to be checked or landed is near."""
        found: dict[str, Projection] = {}
        self.trouble = {}
        for name, line in train(items, config).items():
            base = bases.get(name)
            if base and base.sha:
                found.update(self._train(line, config, base.sha, pauses, now))
        for item in items:
            base = bases.get(gates.base_of(item, config))
            if base and base.sha and item.id not in found and needs_first_checks(item, config):
                projection = self._propose(item, config, base.sha, now)
                if projection is not None:
                    found[item.id] = projection
        return found

    def _train(
        self, line: Sequence[Item], config: Config, sha: str, pauses: Pauses, now: float
    ) -> dict[str, Projection]:
        """Each on top of the one before it. Whoever cannot land is passed over: nobody waits for it."""
        found: dict[str, Projection] = {}
        onto, moving = sha, 0
        for item in line:
            if moving == AHEAD:
                break
            projection = self._propose(item, config, onto, now)
            if projection is None:
                continue
            found[item.id] = projection._replace(ahead=onto != sha)
            if not projection.conflicts and not self._stuck(item, config, projection, pauses, now):
                onto, moving = projection.result_sha, moving + 1
        return found

    def _stuck(self, item: Item, config: Config, projection: Projection, pauses: Pauses, now: float) -> bool:
        flow = gates.flow_of(item.task, config) if item.task else None
        if flow is None or flow.land == "none" or projection.empty or item.ledger.retry_at > now:
            return True
        if item.id in pauses.attached:
            return True
        key = gates.checks_key(gates.checks_for(item, flow, config))
        verdict = checks_verdict(item.ledger, projection.tree, key)
        if verdict is not None:
            return not verdict.yes
        return item.id in pauses.tasks or checks_failed_once(item.ledger, key)

    def _base(self, name: str, judged: bool, seized: Item | None) -> Base:
        try:
            sha = git.branch_sha(self.layout.root, name)
            busy = (
                [one for one in git.checkouts(self.layout.root, name) if one.busy and not one.ours]
                if judged and sha
                else []
            )
        except GitError as error:
            return Base(name, None, error.message)
        waits = f"{busy[0].path}: {busy[0].busy} in progress" if busy else ""
        if sha and seized is not None and self._contains(sha, _seized(seized)):
            waits = f"{name} was moved by the agent of {seized.id}; nothing lands there until you decided about that"
        return Base(name, sha, waits)

    def _contains(self, at: str, commit: str) -> bool:
        return git.commit_exists(self.layout.root, commit) and git.is_ancestor(self.layout.root, commit, at)

    def _lost(self, item: Item, onto: str) -> str:
        """A commit that the work was begun on, of which `onto` has lost what the candidate would bring back.

        Somebody took it off the base (a forced push, an amend, a reset), and had a reason. "" when there is none.
        """
        root, candidate = self.layout.root, item.ledger.candidate
        for base in item.ledger.bases:
            if base == onto or not git.commit_exists(root, base) or git.is_ancestor(root, base, onto):
                continue
            shared = git.merge_base(root, base, candidate)
            if shared and not git.is_ancestor(root, shared, onto):
                return base
        return ""

    def _propose(self, item: Item, config: Config, onto: str, now: float) -> Projection | None:
        """None where git cannot say: one task's trouble stays its own (invariant 11)."""
        flow = gates.flow_of(item.task, config) if item.task else None
        mode = flow.land if flow else "none"
        key = (item.id, onto, item.ledger.candidate, mode)
        known = self._known.get(key)
        if known is None:
            try:
                known = self._compute(item, onto, mode, now)
            except OctopoidError as error:
                self.trouble[item.id] = error.message
                return None
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = known
        return known

    def _compute(self, item: Item, onto: str, mode: str, now: float) -> Projection:
        lost = "" if item.ledger.bare else self._lost(item, onto)
        if lost:
            return Projection(onto, "", "", (f"what it lost since {lost[:12]}",), "", lost=lost)
        proposal = self._proposal(item, onto, mode, now)
        if proposal.conflicts and mode == "rebase":
            # The candidate merged the base, as the conflict's feedback asks. Its commits do not apply one by one, the
            # whole does: it lands as one commit.
            whole = self._proposal(item, onto, "squash", now)
            proposal = proposal if whole.conflicts else whole
        if proposal.conflicts:
            return Projection(onto, "", "", proposal.conflicts, proposal.detail)
        empty = proposal.tree == self._tree(onto)
        self._trees[proposal.result_sha] = proposal.tree
        return Projection(onto, proposal.tree, proposal.result_sha, (), proposal.detail, empty=empty)

    def _proposal(self, item: Item, onto: str, mode: str, now: float) -> merging.Proposal:
        tries = item.ledger.tries.get(item.ledger.work_role, 1)
        return merging.propose(
            self.layout.root,
            onto=onto,
            candidate=item.ledger.candidate,
            mode=mode,
            title=item.task.title if item.task else item.id,
            body=item.ledger.summary,
            trailers=(("Octopoid-Task", item.id), ("Octopoid-Attempt", str(tries))),
            now=now,
        )

    def _tree(self, commit: str) -> str:
        if commit not in self._trees:
            if len(self._trees) >= _KEPT:
                self._trees.clear()
            self._trees[commit] = git.tree_of(self.layout.root, commit)
        return self._trees[commit]


def _seized(item: Item) -> str:
    """The commit that an attempt of this task moved its base to, until a person decided about the task."""
    outcome = item.ledger.last.outcome if item.ledger.last else None
    return outcome.seized if outcome and item.state is State.BLOCKED else ""


def _branches(item: Item, config: Config) -> set[str]:
    """Every branch that a decision about the task may ask for."""
    project = item.task.project if item.task else None
    own = {f"{gates.PROJECT}{project}"} if project else set()
    return {gates.base_of(item, config), gates.root_base(item.task, config)} | own
