"""The scripted agent that ships with Octopoid: a fake that follows a script (docs/scripted-agent.md)."""

from __future__ import annotations

import sys
from pathlib import Path

from octopoid import scripted_agent
from octopoid.adapters.base import (
    OF_MODELS,
    Evidence,
    Facts,
    Launch,
    Reading,
    Request,
    absolute,
    blamed,
    by_status,
    cut_short,
)
from octopoid.settings import Agent

_HOME = str(Path(scripted_agent.__file__).parent.parent)
# Not `-m`: runpy costs more than the agent itself. `-I` keeps the worktree's own modules out of its imports.
_BOOT = f"import sys; sys.path.insert(0, {_HOME!r}); from octopoid.scripted_agent import main; main()"


class Scripted:
    """`script:` names a JSON or YAML file, relative to the root."""

    facts = Facts(
        "scripted",
        "the fake agent that ships with octopoid: follows a script, for trying things out",
        needs="script",
        ignores=("command", "args", *OF_MODELS),
    )

    def program(self, agent: Agent) -> str:
        """This very Python."""
        return sys.executable

    def launch(self, request: Request) -> Launch:
        """A JSON script needs nothing from site-packages, and `-S` saves it a quarter of the start."""
        script = absolute(request.agent.script, request.root)
        isolated = ("-I", "-S") if script.endswith(".json") else ("-I",)
        return Launch((sys.executable, *isolated, "-c", _BOOT, script, *request.agent.args), str(request.prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """As any command; the status kept for a script that cannot be followed is nobody's failed attempt."""
        if evidence.status == scripted_agent.BROKEN and evidence.ended_by == "exit":
            return blamed(Reading("environment", "broken script", by_status(evidence).detail), self.facts, agent)
        return blamed(cut_short(sys.executable, agent, evidence) or by_status(evidence), self.facts, agent)

    def hear(self, line: bytes) -> None:
        """What it prints is text."""

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """It has no sessions."""
        return ()
