"""The scripted agent that ships with Octopoid: a fake that follows a script (docs/scripted-agent.md)."""

from __future__ import annotations

import sys
from pathlib import Path

from octopoid import scripted_agent
from octopoid.adapters.base import Evidence, Launch, Reading, absolute, by_status, cut_short
from octopoid.settings import Agent, Role

_HOME = str(Path(scripted_agent.__file__).parent.parent)
# Not `-m`: runpy costs more than the agent itself. `-I` keeps the worktree's own modules out of its imports.
_BOOT = f"import sys; sys.path.insert(0, {_HOME!r}); from octopoid.scripted_agent import main; main()"


class Scripted:
    """`script:` names a JSON or YAML file, relative to the root."""

    name = "scripted"

    def program(self, agent: Agent) -> str:
        """This very Python."""
        return sys.executable

    def launch(
        self,
        agent: Agent,
        role: Role,
        entry: Path,
        prompt: Path,
        root: Path,
        session: str = "",
    ) -> Launch:
        """A JSON script needs nothing from site-packages, and `-S` saves it a quarter of the start."""
        script = absolute(agent.script, root)
        isolated = ("-I", "-S") if script.endswith(".json") else ("-I",)
        return Launch((sys.executable, *isolated, "-c", _BOOT, script, *agent.args), str(prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """As any command; the status kept for a script that cannot be followed is nobody's failed attempt."""
        if evidence.status == scripted_agent.BROKEN and evidence.ended_by == "exit":
            said = by_status(evidence).detail
            return Reading("environment", "broken script", said, breaker=agent.name)
        return cut_short(sys.executable, agent, evidence) or by_status(evidence)
