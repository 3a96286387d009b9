"""Any program: the prompt comes on its stdin, its exit status is the answer."""

from __future__ import annotations

from pathlib import Path

from octopoid.adapters.base import NOT_STARTED, Evidence, Launch, Reading, by_status, cut_short, missing
from octopoid.settings import Agent, Role


class Command:
    """`command:` is argv, or one string for `sh -c`. A relative path in it starts at the worktree, the agent's cwd."""

    name = "command"

    def program(self, agent: Agent) -> str:
        """The first word of argv; `sh` for a string."""
        return "sh" if isinstance(agent.command, str) else agent.command[0]

    def launch(
        self,
        agent: Agent,
        role: Role,
        entry: Path,
        prompt: Path,
        root: Path,
        session: str = "",
    ) -> Launch:
        """The user's command as it stands, plus `args`. Nothing of the task ever becomes part of it."""
        if isinstance(agent.command, str):
            return Launch(("sh", "-c", agent.command, "sh", *agent.args), str(prompt))
        return Launch((*agent.command, *agent.args), str(prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """Status 0 is fine, 126 and 127 are a missing program, the rest is a failed attempt."""
        program = self.program(agent)
        if evidence.ended_by == "exit" and evidence.status in NOT_STARTED:
            return missing(by_status(evidence).detail or program, agent)
        return cut_short(program, agent, evidence) or by_status(evidence)
