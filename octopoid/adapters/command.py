"""Any program: the prompt comes on its stdin, its exit status is the answer."""

from __future__ import annotations

from octopoid.adapters.base import (
    NOT_STARTED,
    OF_MODELS,
    Evidence,
    Facts,
    Launch,
    Reading,
    Request,
    blamed,
    by_status,
    cut_short,
    missing,
)
from octopoid.settings import Agent


class Command:
    """`command:` is argv, or one string for `sh -c`. A relative path in it starts at the worktree, the agent's cwd."""

    facts = Facts(
        "command",
        "any program: prompt on stdin, work in the current folder, exit status 0",
        needs="command",
        ignores=("script", "model", "max_turns", *OF_MODELS),
    )

    def program(self, agent: Agent) -> str:
        """The first word of argv; `sh` for a string."""
        return "sh" if isinstance(agent.command, str) else agent.command[0]

    def launch(self, request: Request) -> Launch:
        """The user's command as it stands, plus `args`. Nothing of the task ever becomes part of it."""
        agent = request.agent
        if isinstance(agent.command, str):
            return Launch(("sh", "-c", agent.command, "sh", *agent.args), str(request.prompt))
        return Launch((*agent.command, *agent.args), str(request.prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """Status 0 is fine, 126 and 127 are a missing program, the rest is a failed attempt."""
        program = self.program(agent)
        if evidence.ended_by == "exit" and evidence.status in NOT_STARTED:
            return blamed(missing(by_status(evidence).detail or program, agent), self.facts, agent)
        return blamed(cut_short(program, agent, evidence) or by_status(evidence), self.facts, agent)

    def hear(self, line: bytes) -> None:
        """What it prints is text."""

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """It has no sessions."""
        return ()
