"""The `agents.yaml` that `octopoid init` writes: short, commented, valid as it stands."""

from __future__ import annotations

import re

from octopoid.adapters import ADAPTERS, Facts

_HEAD = """\
# Octopoid's policy for this repository: commit it, review it like code.
# Every key: docs/configuration.md of octopoid. After an edit: `octopoid config check`.
version: 1
"""

_REVIEWER = """\
  # A reviewer; then also: gates: [{gates}]
  # reviewer: {{role: gatekeeper, adapter: {adapter}{env}}}
  # One agent for every role makes all flows usable (`octopoid flows`):
  # team: {{roles: all, adapter: {adapter}, instances: 3{env}}}
"""

_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]')


def template(
    base: str,
    checks: list[tuple[str, str]],
    adapter: str,
    command: str | tuple[str, ...] = (),
    script: str = "",
    found: bool = True,
) -> str:
    """The file's text. `checks`: (name, command) pairs. `found`: is the agent's program on this machine?

    Raises KeyError for an adapter that this version does not have.
    """
    command = command or ("./scripts/agent.sh",)
    script = script or "scripts/agent.yaml"
    facts = ADAPTERS[adapter].facts
    program = facts.program or (command.split() if isinstance(command, str) else command)[0]
    missing = (
        ""
        if found
        else f"    # {_quoted(program)} was not found on this machine: {_install(facts)} before `octopoid run`\n"
    )
    own = {"command": _command(command), "script": _quoted(script), "model": "sonnet"}
    agent = _agent(facts, own.get(facts.needs, ""))
    gates = ["checks", "human"] if checks else ["human"]
    reviewed = ", ".join([*gates[:-1], "gatekeeper", "human"])
    return "".join(
        (
            _HEAD,
            f"base: {_quoted(base)}{_pad(base)}# work starts from this branch and lands on it\n" if base else "",
            "max_agents: 4\n\n",
            _checks(checks),
            f"gates: [{', '.join(gates)}]\n" if checks else _NO_CHECKS,
            "land: {mode: merge}             # merge, squash, rebase or none\n",
            '# worktrees: {setup: "npm ci"}  # run in each task\'s new checkout\n',
            "\nagents:\n  implementer:\n    role: implementer\n",
            missing,
            agent,
            _REVIEWER.format(gates=reviewed, adapter=adapter, env=f", env: [{facts.keys[0]}]" if facts.keys else ""),
        )
    )


_NOTES = {"model": "needed: any name that its program knows"}


def _agent(facts: Facts, own: str) -> str:
    """The lines of the agent. `own`: the value of the key that its adapter cannot do without."""
    lines = [
        (f"adapter: {facts.name}", facts.title),
        *([(f"{facts.needs}: {own}", _NOTES.get(facts.needs, ""))] if facts.needs else []),
    ]
    lines += [("instances: 2", ""), ("timeout: 45m", "")]
    if facts.keys:
        without = f"; or {facts.login}" if facts.login else ""
        lines += [("# model: NAME", "")] if facts.needs != "model" else []
        lines += [(f"env: [{facts.keys[0]}]", f"names only, passed on where set{without}")]
    return "".join(f"    {said:<27} {f'# {note}' if note else ''}".rstrip() + "\n" for said, note in lines)


def _install(facts: Facts) -> str:
    return f"install it ({facts.install})" if facts.install else "it must be there"


_NO_CHECKS = """\
# This project has no checks that init could find: nothing but a person stands before landing. Better:
# checks: [{name: tests, run: "make test", timeout: 20m}]
# gates: [checks, human]
gates: [human]
"""


def _checks(checks: list[tuple[str, str]]) -> str:
    if not checks:
        return ""
    rows = [f"  - {{name: {_quoted(name)}, run: {_quoted(run)}, timeout: 20m}}\n" for name, run in checks]
    return "".join(("checks:                         # what must pass on exactly the tree that lands\n", *rows))


def _pad(word: str) -> str:
    return " " * max(2, 26 - len(_quoted(word)))


def _command(command: str | tuple[str, ...]) -> str:
    return _quoted(command) if isinstance(command, str) else f"[{', '.join(map(_quoted, command))}]"


def _quoted(text: str) -> str:
    """`text` as a YAML value: plain where that is safe, else in double quotes."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in ("true", "false", "null", "yes", "no"):
        return text
    escaped = _ESCAPED.sub(lambda match: _escape(match[0]), text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04x}"
