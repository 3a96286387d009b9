"""The policy and what it needs of this machine; what keeps agents from starting."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from octopoid import clock, installing, programs, steer, trust
from octopoid.adapters import ADAPTERS, Facts
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair
from octopoid.errors import Invalid
from octopoid.settings import Agent


def check_policy(case: Case) -> Iterator[Finding]:
    """agents.yaml, roles and flows are valid."""
    for one in case.policy:
        place = f"line {one.line}, column {one.column}: " if one.line else ""
        yield Finding("policy", ERROR, place + one.message, one.hint or "octopoid config check", one.path)
    if case.policy and case.last_good:
        message = "until the policy is valid again, the last good one stays in force"
        yield Finding("policy-last-good", INFO, message, "octopoid config check", case.layout.last_good)


def check_trust(case: Case) -> Iterator[Finding]:
    """The user said yes to the commands that the policy runs: it may have come by a clone."""
    if not trust.is_trusted(case.root) and not trust.has_worked(case.layout):
        message = "nobody has said yet that the commands of this policy may run here, so nothing starts"
        fix = f"read agents.yaml, then: {trust.COMMAND}"
        yield Finding("untrusted", WARNING, message, fix, case.layout.agents_yaml)


def check_programs(case: Case) -> Iterator[Finding]:
    """Every agent's program can be started from here. A role that nobody can do is an error."""
    agents = list(case.config.agents.values()) if case.config else []
    missing = {agent.name: wrong for agent in agents if (wrong := _program_problem(case, agent))}
    able = [agent for agent in agents if agent.name not in missing]
    for agent in agents:
        if agent.name in missing:
            alone = [role for role in (agent.role, *agent.roles) if not any(other.plays(role) for other in able)]
            rest = f", and nobody else has the role {', '.join(alone)}" if alone else ""
            severity = ERROR if alone else WARNING
            message = f"agent {agent.name}: {missing[agent.name]}{rest}"
            fix = f"{_install(agent)}, put its folder on PATH, or change the agent in agents.yaml"
            yield Finding("agent-program", severity, message, fix, case.layout.agents_yaml)


def _install(agent: Agent) -> str:
    """How its program comes here, where it is the one that its adapter knows."""
    facts = ADAPTERS[agent.adapter].facts if agent.adapter in ADAPTERS else None
    known = facts is not None and facts.install and not agent.command
    return f"install it ({facts.install})" if facts and known else "install it"


def _program_problem(case: Case, agent: Agent) -> str:
    if agent.script and not (case.root / agent.script).is_file():
        return f"its script {agent.script} does not exist"
    adapter = ADAPTERS.get(agent.adapter)
    if adapter is None:
        return ""
    return _cannot_start(adapter.program(agent), case.env.get("PATH", os.defpath), case.root)


def _cannot_start(program: str, path: str, root: Path) -> str:
    """Why `program` could not be started along `path`; "" when it could. A relative one starts at the checkout."""
    found = programs.find_program(program, path, str(root))
    if found is None:
        return f"its program `{program}` was not found" + ("" if "/" in program else " on PATH")
    runnable = os.path.isfile(found) and os.access(found, os.X_OK)  # noqa: PTH113 - find_program speaks str
    return "" if runnable else f"its program {found} is not executable"


def check_environment(case: Case) -> Iterator[Finding]:
    """The variables that agents are to be given are there, and something to log in with."""
    for agent in case.config.agents.values() if case.config else ():
        facts = ADAPTERS[agent.adapter].facts if agent.adapter in ADAPTERS else Facts(agent.adapter, "")
        missing = [name for name in agent.env if name not in case.env]
        login = is_logged_in(facts, agent, case.env) if len(missing) == len(agent.env) else None
        if missing:
            yield _unset(case, facts, agent, missing, login)
        elif login is False:
            message = f"agent {agent.name}: no login was found here, and its `env` names no key"
            fix = ", or ".join(filter(None, (f"name {facts.keys[0]} in its `env`", facts.login)))
            yield Finding("agent-env", WARNING, message, fix, case.layout.agents_yaml)


def _unset(case: Case, facts: Facts, agent: Agent, missing: list[str], login: bool | None) -> Finding:
    verb, one = ("is", "it") if len(missing) == 1 else ("are", "them")
    said = f"agent {agent.name}: {', '.join(missing)} {verb} not set here, so not passed on"
    fix = f"set {one} where `octopoid run` is started"
    if login and set(missing) <= set(facts.keys):
        said = f"{said}; a login counts, where there is one"
        return Finding("agent-env", INFO, said, f"{fix}, or {facts.login}", case.layout.agents_yaml)
    if login is False:
        said, fix = f"{said}; no login was found either", f"{fix}, or {facts.login}" if facts.login else fix
    else:
        fix = f"{fix}, or take {one} out of `env` of {agent.name}"
    return Finding("agent-env", WARNING, said, fix, case.layout.agents_yaml)


def is_logged_in(facts: Facts, agent: Agent, env: Mapping[str, str]) -> bool | None:
    """Is there what a login of its program leaves in HOME? None: that says nothing, for it may do without."""
    if not facts.keys or agent.base_url or agent.args or agent.command:
        return None
    home = env.get("HOME", "")
    return any(os.path.lexists(os.path.join(home, name)) for name in facts.logins)  # noqa: PTH118 - HOME may be ""


def check_checks(case: Case) -> Iterator[Finding]:
    """Something stands between an agent and the base branch."""
    if case.config and not case.config.checks and case.look.ids:
        message = "there are tasks and no checks: nothing tests what agents make before it lands"
        fix = 'checks: [{name: tests, run: "make test"}] in agents.yaml'
        yield Finding("no-checks", WARNING, message, fix, case.layout.agents_yaml)


def check_breakers(case: Case) -> Iterator[Finding]:
    """Which breakers are open, and whether they can be read at all."""
    try:
        found = steer.breakers(case.layout)
    except Invalid as error:
        message = f"{error.problems[0].message}; until then nothing starts" if error.problems else error.message
        fix = "octopoid doctor --fix sets it aside; every agent is tried again then"
        repair = Repair("breakers", case.layout.breakers)
        yield Finding("breakers", ERROR, message, fix, case.layout.breakers, repair)
        return
    for one in found.values():
        when = f"tried again at {clock.local(one.until)}" if one.until > case.now else "tried again at the next start"
        who = f"agent {', '.join(one.agents)}" if one.agents else one.name
        message = f"{who} does not start since {clock.local(one.since)} ({one.name}): {one.why}; {when}"
        resume = f"octopoid resume --breaker {one.name}"
        if one.passing:
            fix = f"{one.fix or 'wait'}; it goes on by itself then, or at once with: {resume}"
        else:
            fix = f"{one.fix}; then: {resume}" if one.fix else f"when that is mended: {resume}"
        yield Finding("breaker-open", WARNING, message, fix, case.layout.breakers)


def check_pauses(case: Case) -> Iterator[Finding]:
    """What a person paused."""
    found = steer.pauses(case.layout)
    paused = [("everything", "")] if found.all else []
    paused += [(f"the task {task}", f" {task}") for task in sorted(found.tasks)]
    paused += [(f"the agent {agent}", f" --agent {agent}") for agent in sorted(found.agents)]
    for what, words in paused:
        yield Finding("paused", INFO, f"{what} is paused", f"octopoid resume{words}", case.layout.pause)


def check_service(case: Case) -> Iterator[Finding]:
    """The installed service could start octopoid and its agents."""
    for path, recorded in installing.installed(case.root, case.env):
        program = recorded.program
        again = "octopoid service install, from the shell that finds everything"
        if not os.access(program, os.X_OK):
            message = f"the service starts {program or 'nothing'}, which is not there"
            yield Finding("service-program", ERROR, message, again, path)
        for agent in case.config.agents.values() if case.config else ():
            adapter = ADAPTERS.get(agent.adapter)
            name = adapter.program(agent) if adapter else ""
            if name and not _program_problem(case, agent) and _cannot_start(name, recorded.path, case.root):
                message = f"the service does not find `{name}` of agent {agent.name} on the PATH that it recorded"
                yield Finding("service-path", WARNING, message, again, path)
