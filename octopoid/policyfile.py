"""The policy as the scheduler uses it: what the user's checkout says, or the last good one (DESIGN §6)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from octopoid import attempts, config, durable, git, regular
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.settings import Config

PROBLEM = "problem.txt"


class Policy:
    """Reads the policy again when a file of it changed; a bad edit keeps the last good one and is shown."""

    def __init__(self, layout: Layout, say: Callable[[str], None], *, keep: bool = True) -> None:
        """`keep`: write down the last good policy and what is wrong; a reading command does not."""
        self.layout = layout
        self._keeps = keep
        self.problem = ""
        self._say = say
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._config: Config | None = None

    def current(self) -> Config:
        """The policy in force. Raises Invalid when there never was a good one."""
        seen = config.sources(self.layout.home)
        if self._config is not None and seen == self._seen:
            return self._config
        self._seen = seen
        try:
            fresh = _based(config.load(self.layout.home), self.layout)
        except Invalid as error:
            self._config = self._fall_back(error)
            return self._config
        if self.problem:
            self._say("the policy is valid again")
        self.problem = ""
        if self._keeps:
            if self._config is None or fresh.digest != self._config.digest:
                _keep(self.layout, fresh.digest)
            (self.layout.last_good / PROBLEM).unlink(missing_ok=True)
        self._config = fresh
        return fresh

    def _fall_back(self, error: Invalid) -> Config:
        problems = "\n".join(str(problem) for problem in error.problems) or error.message
        good = self._config
        # `.last-good.old`: a kill between the two renames of `_keep` left no other.
        for home in (self.layout.last_good, _old(self.layout)):
            if good is None and (home / "agents.yaml").exists():
                with contextlib.suppress(Invalid):
                    good = _based(config.load(home), self.layout)
        if good is None:
            raise error
        if problems != self.problem:
            self._say(f"the policy is not valid, the last good one stays in force:\n{problems}")
            if self._keeps:
                self.layout.last_good.mkdir(mode=0o700, exist_ok=True)  # somebody may have tidied up
                durable.write(self.layout.last_good / PROBLEM, problems.encode(), sync=False)
        self.problem = problems
        return good


def _based(policy: Config, layout: Layout) -> Config:
    """Without `base:` in the policy the branch that the user's checkout is on is meant, as in `octopoid init`."""
    return policy if policy.base else policy._replace(base=git.default_branch(layout.root) or "")


def _old(layout: Layout) -> Path:
    return layout.run / ".last-good.old"


def _keep(layout: Layout, digest: str) -> None:
    """Copy the policy to `run/last-good`, aside first, so that a kill leaves the old copy or the new one.

    What is copied may have been saved after it was found good: it must have that `digest`, or the old copy stays.
    """
    fresh = layout.run / ".last-good.new"
    attempts.tidy(fresh)
    fresh.mkdir(mode=0o700, parents=True)
    for name, _, _ in config.sources(layout.home):
        target = fresh / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(target, regular.read(layout.home / name, follow=True), sync=False)
    if not _is(fresh, digest):
        attempts.tidy(fresh)
        return
    old = _old(layout)
    if layout.last_good.exists():
        attempts.tidy(old)
        layout.last_good.rename(old)
    fresh.rename(layout.last_good)
    attempts.tidy(old)


def _is(home: Path, digest: str) -> bool:
    try:
        return config.load(home).digest == digest
    except Invalid:
        return False
