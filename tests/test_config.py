"""agents.yaml and role files: what is right, and where exactly what is wrong is wrong (LESSONS 47-49)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from octopoid import config, configkeys, rolefiles
from octopoid.adapters import ADAPTERS
from octopoid.errors import Invalid
from octopoid.model import Problem
from octopoid.prices import Price
from octopoid.settings import (
    Agent,
    Check,
    Config,
    Flow,
    Follow,
    Gate,
    Limits,
    Role,
    Schedule,
    Stage,
    Worktrees,
)

PROJECT = Path(__file__).parent.parent

AGENT = "agents:\n  implementer: {adapter: claude}\n"


def home(folder: Path, text: str = AGENT, **roles: str) -> Path:
    """A home with an agents.yaml and role files."""
    folder.mkdir(exist_ok=True)
    (folder / "agents.yaml").write_text(text, encoding="utf-8")
    (folder / "roles").mkdir(exist_ok=True)
    for name, role in roles.items():
        (folder / "roles" / f"{name}.md").write_text(role, encoding="utf-8")
    return folder


def problems(folder: Path, text: str = AGENT, **roles: str) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        config.load(home(folder, text, **roles))
    assert caught.value.exit_code == 4
    assert caught.value.problems
    return caught.value.problems


def gates(read: Config, flow: str = "default") -> list[str]:
    """The gates of a flow where each is asked alone."""
    groups = read.flows[flow].gates
    assert all(len(group) == 1 and group[0].required for group in groups)
    return [group[0].name for group in groups]


def test_only_agents_are_required_and_every_default_holds(tmp_path: Path) -> None:
    read = config.load(home(tmp_path))
    assert read.agents == {"implementer": Agent("implementer", "implementer", "claude", credential="claude")}
    flow = read.flows["default"]
    assert (gates(read), flow.land) == (["checks", "human"], "merge")
    assert flow.stages == (config.IMPLEMENT,)
    assert set(read.roles) == set(rolefiles.builtin_names())
    assert read._replace(agents={}, roles={}, flows={}, digest="") == Config("", {}, {}, {})


def test_every_key_arrives_where_it_belongs(tmp_path: Path) -> None:
    text = """\
version: 1
base: release/2.x
max_agents: 7
max_checks: 3
grace: 5
checks:
  - {name: tests, run: "pytest -q | cat", timeout: 1h30m}
  - {run: [mypy, --strict], name: types}
  - ruff check .
  - ruff check .
gates: [human, gatekeeper, checks]
land: {mode: squash}
limits:
  {attempts: 4, rounds: 5, usd_per_task: 1.50, usd_per_day: 20, max_provisional: 6, handoffs: 7, depth: 1,
   subtasks: 5, proposals: 3, wip: {implementer: 2, blocked: 9}, usd_per_role: {implementer: 7.5, planner: 0},
   usd_unknown: 0}
prices: {gpt-5.5-codex: {input: 1.25, output: 10, cached: 0.125}, "org/local 7B": {input: 0, output: 0}}
worktrees: {dir: ../trees, setup: [npm, ci], setup_timeout: 90s, reuse: false}
notify: {command: [notify-send, "a b"]}
agents:
  first:
    role: implementer
    adapter: claude
    instances: 3
    model: sonnet
    timeout: 2h
    silence: 0
    env: [ANTHROPIC_API_KEY, ANTHROPIC_API_KEY, OTHER]
    command: my-claude
    args: [--add-dir, /x]
    max_turns: 30
    max_usd: 2.50
  gatekeeper: {adapter: scripted, script: reviews.json, silence: 10m}
  codemod: {role: implementer, adapter: command, command: "./a && ./b", pre_check: [test, -s, todo]}
  team: {role: planner, roles: [tester, planner, researcher], adapter: claude}
  anyone: {roles: all, adapter: claude}
  architect: {roles: all, adapter: claude}
  others: {roles: [devops, documenter], adapter: claude, pre_check: "test -s todo"}
schedule:
  nightly: {cron: "0 3 * * MON-FRI", template: TEMPLATE, max_open: 2, pre_check: ./outdated}
  ideas: {cron: "*/30 0 1 * *", title: Look for ideas, role: proposer, flow: quick, pre_check: [test, -e, x]}
"""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "update.md").write_text("# Update\n", encoding="utf-8")
    text = text.replace("TEMPLATE", "update")
    read = config.load(home(tmp_path, text))
    assert {one.credential for one in read.agents.values()} >= {"ANTHROPIC_API_KEY", "claude", "command"}
    plain = {name: one._replace(credential="") for name, one in read.agents.items()}
    assert read._replace(agents=plain) == Config(
        base="release/2.x",
        agents={
            "first": Agent(
                *("first", "implementer", "claude", 3, "sonnet", 7200.0, 0.0, ("ANTHROPIC_API_KEY", "OTHER")),
                *("my-claude", "", ("--add-dir", "/x"), 30),
                max_usd=2.5,
            ),
            "gatekeeper": Agent("gatekeeper", "gatekeeper", "scripted", silence=600.0, script="reviews.json"),
            "codemod": Agent(
                *("codemod", "implementer", "command"), command="./a && ./b", pre_check=("test", "-s", "todo")
            ),
            "team": Agent("team", "planner", "claude", roles=("tester", "researcher")),
            "anyone": Agent("anyone", "implementer", "claude", roles=("all",)),
            "architect": Agent("architect", "architect", "claude", roles=("all",)),
            "others": Agent("others", "devops", "claude", roles=("documenter",), pre_check="test -s todo"),
        },
        roles=read.roles,
        flows=read.flows,
        checks=(
            Check("tests", "pytest -q | cat", 5400.0),
            Check("types", ("mypy", "--strict")),
            Check("ruff-check", "ruff check ."),
            Check("ruff-check-2", "ruff check ."),
        ),
        limits=Limits(
            *(4, 5, 1.5, 20.0, 6, 7, 1, 5, 3, {"implementer": 2, "blocked": 9}),
            *({"implementer": 7.5, "planner": 0.0}, 0.0),
        ),
        worktrees=Worktrees("../trees", ("npm", "ci"), 90.0, False),
        max_agents=7,
        max_checks=3,
        grace=5.0,
        notify=("notify-send", "a b"),
        digest=read.digest,
        schedule={
            "nightly": Schedule("nightly", "0 3 * * MON-FRI", template="update", pre_check="./outdated", max_open=2),
            "ideas": Schedule(
                *("ideas", "*/30 0 1 * *"), title="Look for ideas", role="proposer", flow="quick", pre_check=_PRE
            ),
        },
        prices={
            "gpt-5.5-codex": Price(1.25, 10.0, 1.25, 0.125, day="agents.yaml"),
            "org/local 7B": Price(0.0, 0.0, 0.0, 0.0, day="agents.yaml"),
        },
    )
    assert (gates(read), read.flows["default"].land) == (["human", "gatekeeper", "checks"], "squash")


_PRE = ("test", "-e", "x")


def test_gates_may_be_asked_at_once_and_be_advisory(tmp_path: Path) -> None:
    text = (
        "gates: [checks, [reviewer, {gate: tester, required: false}], {gate: gatekeeper}]\n"
        "agents: {implementer: {adapter: claude, roles: all}}\n"
    )
    assert config.load(home(tmp_path, text)).flows["default"].gates == (
        (Gate("checks"),),
        (Gate("reviewer"), Gate("tester", required=False)),
        (Gate("gatekeeper"),),
    )


class Bad(NamedTuple):
    """A file, and one problem it must have: at this line and column, with these words in message and hint.

    `also`: how many further problems come of it.
    """

    text: str
    line: int
    column: int
    message: str
    hint: str = ""
    also: int = 0


_JOB = '{cron: "0 3 * * *", title: x}'

BAD = {
    "unknown key": Bad("limit: {attempts: 2}\n" + AGENT, 1, 1, "unknown key `limit`", "`limits`"),
    "unknown key below": Bad(f"limits:\n  rounds: 2\n  attemps: 2\n{AGENT}", 3, 3, "`attemps` in limits", "`attempts`"),
    "unknown key in flow style": Bad(f"land: {{mod: merge}}\n{AGENT}", 1, 8, "`mod` in land", "`mode`"),
    "misplaced key": Bad("usd_per_task: 5\n" + AGENT, 1, 1, "unknown key `usd_per_task`", "into `limits`"),
    "renamed agents": Bad(
        "pools:\n  implementer: {adapter: claude}\n", 1, 1, "the file has no `agents`", "add `agents:`"
    ),
    "pause flag": Bad(f"paused: true\n{AGENT}", 1, 1, "unknown key `paused`", "octopoid pause"),
    "secret in the file": Bad(
        "agents:\n  implementer:\n    adapter: claude\n    api_key: x\n", 4, 5, "unknown key `api_key`", "secrets never"
    ),
    "duplicate key": Bad(f"base: a\nbase: b\n{AGENT}", 2, 1, "duplicate key `base` (first on line 1)"),
    "duplicate agent": Bad(AGENT + "  implementer: {adapter: claude}\n", 3, 3, "duplicate key `implementer`"),
    "version": Bad(f"version: 2\n{AGENT}", 1, 10, "`version` must be 1"),
    "version as text": Bad(f'version: "1"\n{AGENT}', 1, 10, "`version` must be 1"),
    "empty file": Bad("", 1, 1, "the file has no `agents`"),
    "no mapping": Bad("agents\n", 1, 1, "the file must be `key: value` lines, not text"),
    "broken YAML": Bad(f"base: a: b\n{AGENT}", 1, 8, "broken YAML", "needs quotes"),
    "key without a value": Bad(f"base:\n{AGENT}", 1, 1, "`base` has no value"),
    "no agents": Bad("agents: {}\n", 1, 1, "there are no agents"),
    "agents without a value": Bad("agents:\n", 1, 1, "`agents` has no value"),
    "agents as a list": Bad("agents:\n  - implementer\n", 2, 3, "agents must be `key: value`", "one entry per agent"),
    "agent without keys": Bad("agents:\n  implementer:\n", 2, 3, "agents.implementer has no keys"),
    "agent as text": Bad("agents:\n  implementer: claude\n", 2, 16, "agents.implementer must be `key: value`"),
    "agent's name": Bad("agents:\n  My_Agent: {role: implementer, adapter: claude}\n", 2, 3, "not a name for an agent"),
    "no adapter": Bad("agents:\n  implementer: {instances: 2}\n", 2, 3, "agents.implementer has no `adapter`"),
    "unknown adapter": Bad("agents:\n  implementer: {adapter: cluade}\n", 2, 26, "adapter `cluade`", "`claude`"),
    "no command": Bad("agents:\n  implementer: {adapter: command}\n", 2, 3, "has no `command`", "add `command:`"),
    "empty command": Bad('agents:\n  implementer: {adapter: command, command: " "}\n', 2, 44, "`command` must be"),
    "empty argv": Bad("agents:\n  implementer: {adapter: command, command: []}\n", 2, 44, "`command` is empty"),
    "number in argv": Bad(
        "agents:\n  implementer: {adapter: command, command: [sleep, 5]}\n",
        *(2, 52, "`command` must be a list of texts, not a number", "quotes"),
    ),
    "no script": Bad("agents:\n  implementer: {adapter: scripted}\n", 2, 3, "agents.implementer has no `script`"),
    "key that means nothing": Bad(
        "agents:\n  implementer: {adapter: command, command: x, max_turns: 3}\n",
        *(2, 47, "`max_turns` means nothing to the adapter `command`"),
    ),
    "unknown role": Bad(
        "agents:\n  a: {adapter: claude, role: implementor}\n",
        2,
        30,
        "no file defines the role `implementor`",
        "`implementer`",
    ),
    "no role": Bad("agents:\n  coder: {adapter: claude}\n", 2, 3, "agents.coder has no `role`", "gatekeeper, impl"),
    "reviewers alone": Bad(
        "agents:\n  gatekeeper: {adapter: claude}\n",
        1,
        1,
        "no agent has a role that produces commits, documents or tasks",
    ),
    "instances": Bad(
        "agents:\n  implementer: {adapter: claude, instances: 0}\n", 2, 45, "`instances`", "octopoid pause"
    ),
    "a count as text": Bad(f'max_agents: "4"\n{AGENT}', 1, 13, "`max_agents` must be a whole number from 1"),
    "a count as yes": Bad(f"max_agents: true\n{AGENT}", 1, 13, "`max_agents` must be a whole number"),
    "a count beyond reason": Bad(f"max_checks: 100000\n{AGENT}", 1, 13, "to 1000"),
    "yes is text": Bad(f"worktrees: {{reuse: yes}}\n{AGENT}", 1, 20, "`reuse` must be true or false, not text"),
    "duration with a blank": Bad(f"grace: 10 s\n{AGENT}", 1, 8, "`grace` must be a duration", "1h30m"),
    "duration in words": Bad(f"grace: 10min\n{AGENT}", 1, 8, "`grace` must be a duration", "1h30m"),
    "negative duration": Bad(f"grace: -1\n{AGENT}", 1, 8, "`grace` must be a duration", "0 turns it off"),
    "empty duration": Bad(f'grace: ""\n{AGENT}', 1, 8, "`grace` must be a duration"),
    "fraction of a second": Bad(f"grace: 1.5\n{AGENT}", 1, 8, "`grace` must be a duration"),
    "too long": Bad(f"grace: 1000h\n{AGENT}", 1, 8, "more than 30 days"),
    "negative money": Bad(f"limits: {{usd_per_day: -1}}\n{AGENT}", 1, 23, "`usd_per_day` must be an amount"),
    "money of no role": Bad(
        f"limits: {{usd_per_role: {{implementor: 5}}}}\n{AGENT}",
        1,
        25,
        "no file defines the role `implementor`",
        "did you",
    ),
    "money of a role": Bad(
        f"limits: {{usd_per_role: {{tester: lots}}}}\n{AGENT}", 1, 33, "`tester` must be an amount of US dollars"
    ),
    "unknown money": Bad(
        f"limits: {{usd_unknown: -1}}\n{AGENT}", 1, 23, "`usd_unknown` must be an amount of US dollars"
    ),
    "half a price": Bad(f"prices: {{m: {{input: 5}}}}\n{AGENT}", 1, 10, "prices.m has no `output`", "add `output:`"),
    "no price": Bad(f"prices: {{m: }}\n{AGENT}", 1, 10, "prices.m has no keys", "write {input: 1.25, output: 10}"),
    "a price below zero": Bad(
        f"prices: {{m: {{input: 5, output: -1}}}}\n{AGENT}", 1, 32, "`output` must be an amount of US dollars from 0"
    ),
    "max_usd of what cannot": Bad(
        AGENT.replace("claude", "codex, max_usd: 2"),
        2,
        33,
        "`max_usd` means nothing to the adapter `codex`",
        "usd_per_task",
    ),
    "money with a sign": Bad(f"limits: {{usd_per_day: $5}}\n{AGENT}", 1, 23, "`usd_per_day` must be an amount"),
    "branch": Bad(f"base: refs/heads/main\n{AGENT}", 1, 7, "`base` must be a branch's name", "without `refs/heads/`"),
    "option as branch": Bad(f"base: --all\n{AGENT}", 1, 7, "`--all` cannot be a branch's name"),
    "number as branch": Bad(f"base: 2024\n{AGENT}", 1, 7, "`base` must be text, not a number", "quotes"),
    "land": Bad(f"land: {{mode: merged}}\n{AGENT}", 1, 14, "`mode` must be merge, squash, rebase or none", "`merge`?"),
    "land in short": Bad(f"land: squash\n{AGENT}", 1, 7, "land must be `key: value`", "write land: {mode: merge}"),
    "notify as text": Bad(f"notify: {{command: beep}}\n{AGENT}", 1, 19, "`command` must be a list", "[one, two]"),
    "unknown gate": Bad(f"gates: [check, human]\n{AGENT}", 1, 9, "unknown gate `check`", "`checks`?"),
    "gate that nobody answers": Bad(f"gates: [gatekeeper]\n{AGENT}", 1, 9, "nobody can answer the gate `gatekeeper`"),
    "gate that does not judge": Bad(f"gates: [implementer]\n{AGENT}", 1, 9, "produces commits", "gatekeeper"),
    "gate twice": Bad(f"gates: [human, human]\n{AGENT}", 1, 16, "the gate `human` is there twice"),
    "gate that is no word": Bad(f"gates: [human, 5]\n{AGENT}", 1, 16, "a gate must be a word", "name of a role"),
    "gate in words of its own": Bad(f"gates: [{{gate: humam}}]\n{AGENT}", 1, 16, "unknown gate `humam`", "`human`?"),
    "gate without its name": Bad(f"gates: [{{required: false}}]\n{AGENT}", 1, 9, "gates[] has no `gate`"),
    "gate with an unknown key": Bad(f"gates: [{{gate: human, needed: false}}]\n{AGENT}", 1, 23, "`needed` in gates[]"),
    "advisory person": Bad(
        f"gates: [{{gate: human, required: false}}]\n{AGENT}", 1, 16, "the gate `human` is always required", "take"
    ),
    "advisory checks": Bad(f"gates: [{{gate: checks, required: false}}]\n{AGENT}", 1, 16, "always required"),
    "gate twice in two groups": Bad(f"gates: [checks, [human, checks]]\n{AGENT}", 1, 25, "`checks` is there twice"),
    "empty group": Bad(f"gates: [checks, []]\n{AGENT}", 1, 17, "a group of gates is empty"),
    "group in a group": Bad(f"gates: [[[checks]]]\n{AGENT}", 1, 10, "a gate must be a word", "side by side"),
    "roles as text": Bad(
        "agents:\n  implementer: {adapter: claude, roles: tester}\n", 2, 41, "`roles` must be a list", "or roles: all"
    ),
    "no roles": Bad("agents:\n  implementer: {adapter: claude, roles: []}\n", 2, 41, "`roles` is empty", "`all`"),
    "unknown further role": Bad(
        "agents:\n  a: {adapter: claude, roles: [implementer, testr]}\n",
        *(2, 45, "no file defines the role `testr`", "`tester`?"),
    ),
    "all is no role": Bad(
        "agents:\n  a: {adapter: claude, roles: [implementer, all]}\n", 2, 45, "no file defines the role `all`"
    ),
    "wip of nobody": Bad(f"limits: {{wip: {{testr: 1}}}}\n{AGENT}", 1, 16, "`testr` is neither a role", "`tester`?"),
    "wip of none": Bad(f"limits: {{wip: {{tester: 0}}}}\n{AGENT}", 1, 24, "`tester` must be a whole number from 1"),
    "wip as a number": Bad(f"limits: {{wip: 3}}\n{AGENT}", 1, 15, "wip must be `key: value`", "wip: {implementer: 2"),
    "wip of a folder without a cap": Bad(f"limits: {{wip: {{done: 3}}}}\n{AGENT}", 1, 16, "`done` is neither a role"),
    "schedule as a list": Bad(f"{AGENT}schedule: [a]\n", 3, 11, "schedule must be `key: value`", "one entry per"),
    "schedule without keys": Bad(f"{AGENT}schedule:\n  a:\n", 4, 3, "schedule.a has no keys", "cron"),
    "schedule's name": Bad(f"{AGENT}schedule: {{A b: {_JOB}}}\n", 3, 12, "not a name for a schedule"),
    "schedule without times": Bad(f"{AGENT}schedule: {{a: {{title: x}}}}\n", 3, 12, "schedule.a has no `cron`"),
    "schedule without a task": Bad(
        f'{AGENT}schedule:\n  a: {{cron: "0 3 * * *"}}\n', 4, 3, "schedule.a has neither `template` nor `title`"
    ),
    "schedule with two tasks": Bad(
        f'{AGENT}schedule:\n  a: {{cron: "0 3 * * *", template: x, title: y}}\n', 4, 39, "both `template` and `title`"
    )._replace(also=1),
    "schedule of no template": Bad(
        f'{AGENT}schedule:\n  a: {{cron: "0 3 * * *", template: nothing}}\n',
        *(4, 36, "there is no template `nothing`", "templates/nothing.md"),
    ),
    "schedule of no role": Bad(
        f"{AGENT}schedule:\n  a: {{title: x, role: propser, cron: 0 3 * * *}}\n",
        *(4, 23, "there is no role `propser`", "`proposer`?"),
    ),
    "schedule of no flow": Bad(
        f"{AGENT}schedule:\n  a: {{title: x, flow: quik, cron: 0 3 * * *}}\n",
        *(4, 23, "there is no flow `quik`", "`quick`?"),
    ),
    "schedule that never comes": Bad(f"{AGENT}schedule: {{a: {_JOB}}}\n".replace("3 * * *", "3 31 2 *"), 3, 22, "cron"),
    "schedule of the fifth Monday that is the first": Bad(
        f"{AGENT}schedule: {{a: {_JOB}}}\n".replace("0 3 * * *", "0 0 */30 2 1#5"), 3, 22, "no such time ever comes"
    ),
    "schedule of an odd hour": Bad(
        f"{AGENT}schedule: {{a: {_JOB}}}\n".replace("0 3", "0 25"), 3, 22, "`cron`: bad hour", "MON-FRI"
    ),
    "schedule with seconds": Bad(
        f"{AGENT}schedule: {{a: {_JOB}}}\n".replace("0 3", "0 0 3"), 3, 22, "`cron` must be five fields", "each day"
    ),
    "schedule in words": Bad(f"{AGENT}schedule: {{a: {{title: x, cron: daily}}}}\n", 3, 32, "`cron` must be five"),
    "gates as text": Bad(f"gates: human\n{AGENT}", 1, 8, "`gates` must be a list", "[checks, human]"),
    "checks as text": Bad(f"checks: pytest\n{AGENT}", 1, 9, "`checks` must be a list", "pytest -q"),
    "check without run": Bad(f"checks:\n  - name: a\n{AGENT}", 2, 5, "checks[] has no `run`", "add `run:`"),
    "check that is no command": Bad(f"checks: [5]\n{AGENT}", 1, 10, "a check must be a command", "pytest -q"),
    "empty check": Bad(f'checks: [""]\n{AGENT}', 1, 10, "`checks` must be a command"),
    "check's name": Bad(
        f"checks:\n  - {{name: Unit tests, run: x}}\n{AGENT}", 2, 12, "`Unit tests` is not a name", "a-z"
    ),
    "checks of one name": Bad(
        f"checks:\n  - {{name: a, run: x}}\n  - {{name: a, run: z}}\n{AGENT}", 3, 12, "two checks are called `a`"
    ),
    "control characters": Bad(f'worktrees: {{dir: "a\\tb"}}\n{AGENT}', 1, 18, "`dir` has control characters"),
    "NUL in a command": Bad(f'worktrees: {{setup: ["a\\0b"]}}\n{AGENT}', 1, 21, "NUL"),
    "own variables": Bad(
        "agents:\n  implementer: {adapter: claude, env: [OCTOPOID_ROOT]}\n", 2, 40, "set by octopoid itself", "remove"
    ),
    "git's variables": Bad(
        "agents:\n  implementer: {adapter: claude, env: [A, GIT_DIR]}\n", 2, 43, "`GIT_DIR` would make git work outside"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_reported_where_it_is(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    found = problems(tmp_path, bad.text)
    at = [one for one in found if (one.line, one.column) == (bad.line, bad.column) and bad.message in one.message]
    assert at, [str(one) for one in found]
    assert bad.hint in at[0].hint
    assert at[0].path == tmp_path / "agents.yaml"


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"renamed agents"}))
def test_one_mistake_is_one_problem(tmp_path: Path, name: str) -> None:
    assert len(problems(tmp_path, BAD[name].text)) == 1 + BAD[name].also


def test_all_problems_are_reported_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "version: 1\nmax_agent: 2\nlimits:\n  rounds: many\nagents:\n  a: {role: implementer, adaptor: claude}\n"
    found = problems(tmp_path, text, broken="---\nproduce: x\n---\nHello\n")
    assert [(one.path.name, one.line, one.column) for one in found] == [
        ("agents.yaml", 2, 1),
        ("agents.yaml", 4, 11),
        ("agents.yaml", 6, 3),
        ("agents.yaml", 6, 26),
        ("broken.md", 2, 1),
    ]


def test_the_message_names_the_first_problem_and_counts_the_rest(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        config.load(home(tmp_path, "a: 1\nb: 2\n" + AGENT))
    assert str(caught.value) == f"{tmp_path}/agents.yaml:1:1: unknown key `a` (and 1 more)"


@pytest.mark.parametrize(
    "env",
    ["[TOKEN=hunter2]", "{TOKEN: hunter2}", "[hunter2-with-dashes]", "hunter2", "[[hunter2]]", "[{TOKEN: hunter2}]"],
)
def test_a_value_in_env_is_refused_and_never_repeated(tmp_path: Path, env: str) -> None:
    (found,) = problems(tmp_path, f"agents:\n  implementer: {{adapter: claude, env: {env}}}\n")
    assert "hunter2" not in found.message + found.hint
    assert found.hint == "names only; values come from the scheduler's environment"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45m", 2700), ("90s", 90), ("1h30m", 5400), ("2h", 7200), ("0", 0), ("0s", 0), ("20", 20), ("1h1s", 3601)],
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    assert config.load(home(tmp_path, f"grace: {text}\n{AGENT}")).grace == seconds


def test_no_gates_at_all_may_be_said(tmp_path: Path) -> None:
    assert config.load(home(tmp_path, f"gates: []\n{AGENT}")).flows["default"].gates == ()


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        config.load(tmp_path)
    assert caught.value.problems == (Problem(tmp_path / "agents.yaml", 0, 0, *_MISSING),)


_MISSING = ("the file is missing", "`octopoid init` writes one")


def test_what_is_no_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").mkdir()
    with pytest.raises(Invalid, match="cannot be read: Is a directory"):
        config.load(tmp_path)


def test_bom_and_crlf_are_fine_and_other_encodings_are_not(tmp_path: Path) -> None:
    home(tmp_path)
    (tmp_path / "agents.yaml").write_bytes(b"\xef\xbb\xbf" + AGENT.replace("\n", "\r\n").encode())
    assert list(config.load(tmp_path).agents) == ["implementer"]
    (tmp_path / "agents.yaml").write_bytes(b"\xef\xbb\xbf" + AGENT.encode() + "# gr\xfc\xdfe\n".encode("latin-1"))
    with pytest.raises(Invalid) as caught:
        config.load(tmp_path)
    assert [(one.line, one.column, one.message) for one in caught.value.problems] == [(3, 5, "not UTF-8")]
    (tmp_path / "agents.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(Invalid, match="too many"):
        config.load(tmp_path)


# --- roles -------------------------------------------------------------------------------------------------------

REVIEW = (
    "---\ndescription: looks twice\nproduces: verdict\ntools: Read, Bash(git log:*, git show:*), Grep\n---\nLook.\n"
)


def test_a_role_of_the_users_own_can_be_a_gate(tmp_path: Path) -> None:
    text = "gates: [security]\nagents:\n  implementer: {adapter: claude}\n  security: {adapter: claude}\n"
    role = config.load(home(tmp_path, text, security=REVIEW)).roles["security"]
    assert (role.description, role.produces, role.writes) == ("looks twice", "verdict", False)
    assert role.tools == ("Read", "Bash(git log:*, git show:*)", "Grep")
    assert role.source == str(tmp_path / "roles" / "security.md")


def test_a_role_of_the_users_own_replaces_the_built_in_one(tmp_path: Path) -> None:
    built_in = config.load(home(tmp_path)).roles["implementer"]
    assert (built_in.source, built_in.produces, built_in.writes) == ("built-in", "commits", True)
    own = config.load(home(tmp_path, implementer="Do it.\n")).roles["implementer"]
    assert (own.template, own.writes, own.tools) == ("Do it.\n", True, ())


def test_the_built_in_reviewer_may_not_write(tmp_path: Path) -> None:
    role = config.load(home(tmp_path)).roles["gatekeeper"]
    assert (role.produces, role.writes) == ("verdict", False)


@pytest.mark.parametrize(
    ("role", "line", "column", "message", "hint"),
    [
        ("---\nproduce: commits\n---\nx\n", 2, 1, "unknown key `produce`", "`produces`"),
        (
            "---\nproduces: verdicts\n---\nx\n",
            2,
            11,
            "`produces` must be commits, document, verdict or tasks",
            "`verdict`",
        ),
        ("---\nwrites: no\n---\nx\n", 2, 9, "`writes` must be true or false, not text", "true or false"),
        ("---\ntools: [1]\n---\nx\n", 2, 9, "`tools` must be a list of texts", ""),
        ("---\na: b: c\n---\nx\n", 2, 5, "broken YAML", "quotes"),
        ("---\nmodel: a\nmodel: b\n---\nx\n", 3, 1, "duplicate key `model`", ""),
        ("---\nmodel: a\n", 1, 1, "the header has no end", "`---`"),
        ("---\nmodel: a\n---\n \n", 0, 0, "the prompt is empty", ""),
        ("", 0, 0, "the prompt is empty", ""),
        ("---\nmodel: a\n---\n\nDo {{ tsak.title }}.\n", 5, 7, "unknown variable `tsak`", "`task`"),
        ("Do {{ task.titel }}.\n", 1, 12, "unknown field `titel`", "`title`"),
        ("one\n\ntwo {% if x\n", 3, 1, "template: ", "docs/"),
        ("one\n{{ task.title | shout }}\n", 2, 1, "template: No filter named 'shout'", "docs/"),
        ("---\nproduces: document\nartifact: a/b.md\n---\nx\n", 3, 11, "is not a document's name", "`plan.md`"),
        ("---\ntimeout: soon\n---\nx\n", 2, 10, "`timeout` must be a duration", "45m"),
        ("---\nmax_turns: -1\n---\nx\n", 2, 12, "`max_turns` must be a whole number from 0", ""),
    ],
)
def test_what_is_wrong_in_a_role_is_reported_where_it_is(
    tmp_path: Path, role: str, line: int, column: int, message: str, hint: str
) -> None:
    (found,) = problems(tmp_path, coder=role)
    assert (found.path, found.line, found.column) == (tmp_path / "roles" / "coder.md", line, column)
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize("name", ["human", "checks", "README", "a b"])
def test_a_role_file_needs_a_name_that_can_be_used(tmp_path: Path, name: str) -> None:
    (found,) = problems(tmp_path, **{name: "Look.\n"})
    assert "cannot be a role's name" in found.message


def test_a_broken_role_is_not_also_an_unknown_one(tmp_path: Path) -> None:
    text = "gates: [coder]\nagents:\n  coder: {adapter: claude}\n  implementer: {adapter: claude}\n"
    (found,) = problems(tmp_path, text, coder="---\nx: 1\n---\nDo.\n")
    assert found.path.name == "coder.md"


def test_readers_may_skip_the_template_language(tmp_path: Path) -> None:
    read = config.load(home(tmp_path, coder="{{ nobody }}\n"), templates=False)
    assert "coder" in read.roles


def test_role_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    home(tmp_path)
    (tmp_path / "roles" / "folder.md").mkdir()
    (tmp_path / "roles" / "gone.md").symlink_to("nowhere")
    with pytest.raises(Invalid) as caught:
        config.load(tmp_path)
    assert [(one.path.name, one.message) for one in caught.value.problems] == [
        ("folder.md", "cannot be read: Is a directory"),
        ("gone.md", "the file is missing"),
    ]


def test_editors_files_are_no_roles(tmp_path: Path) -> None:
    home(tmp_path)
    for name in (".#coder.md", ".coder.md.swp", "coder.md~", "#coder.md#"):
        (tmp_path / "roles" / name).write_text("{{ x }}", encoding="utf-8")
    assert set(config.load(tmp_path).roles) == set(rolefiles.builtin_names())


# --- digest and sources ------------------------------------------------------------------------------------------


def test_the_digest_is_about_names_and_contents_alone(tmp_path: Path) -> None:
    first = config.load(home(tmp_path / "a", coder="Do.\n")).digest
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert config.load(home(tmp_path / "b", coder="Do.\n")).digest == first
    others = (
        home(tmp_path / "c", coder="Do it.\n"),
        home(tmp_path / "d", codex="Do.\n"),
        home(tmp_path / "e", AGENT + "# comment\n", coder="Do.\n"),
        home(tmp_path / "f"),
    )
    assert len({first, *(config.load(other).digest for other in others)}) == 5


def test_sources_change_with_every_file_that_is_read(tmp_path: Path) -> None:
    assert config.sources(tmp_path) == ()
    home(tmp_path, coder="Do.\n")
    seen = [config.sources(tmp_path)]
    assert [name for name, _, _ in seen[0]] == ["agents.yaml", "roles/coder.md"]
    (tmp_path / "roles" / "coder.md").write_text("Do it.\n", encoding="utf-8")
    seen.append(config.sources(tmp_path))
    os.utime(tmp_path / "agents.yaml", ns=(1, 1))
    seen.append(config.sources(tmp_path))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "x.yml").write_text("", encoding="utf-8")
    seen.append(config.sources(tmp_path))
    assert len(set(seen)) == 4
    assert seen[-1][-1][0] == "flows/x.yml"


# --- what ships --------------------------------------------------------------------------------------------------


_HUMAN = Gate("human")


def test_the_example_is_valid_and_shows_every_key(tmp_path: Path) -> None:
    text = (PROJECT / "agents.yaml.example").read_text(encoding="utf-8")
    read = config.load(home(tmp_path, text))
    assert [check.name for check in read.checks] == ["tests", "types", "ruff-check"]
    assert read.flows["default"].gates == ((Gate("checks"),), (Gate("gatekeeper"), Gate("tester", False)), (_HUMAN,))
    words = set(re.findall(r"[a-z_]+(?=:)", text))
    assert {key.name for keys in configkeys.SECTIONS.values() for key in keys} <= words


def test_the_documentation_has_every_key_with_its_default() -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for table in (configkeys.table(), configkeys.table({"": configkeys.ROLE})):
        assert table in text, f"docs/configuration.md is not up to date; it must contain:\n{table}"


def test_the_examples_in_the_documentation_are_valid(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    files = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "agents:" in block]
    assert len(files) == 4
    for number, block in enumerate(files):
        config.load(home(tmp_path / str(number), block))
    (times,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if block.startswith("schedule:"))
    assert len(config.load(home(tmp_path / "times", AGENT + times)).schedule) == 2
    (role,) = re.findall(r"```markdown\n(.*?)```", text, re.S)
    assert config.load(home(tmp_path / "role", api=role)).roles["api"].produces == "verdict"


def test_the_problems_in_the_documentation_are_those_that_are_shown(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = problems(tmp_path, "version: 1\nlimits:\n  attemps: 2\nagents:\n  implementer:\n    model: x\n")
    shown = "".join(f".octopoid/{str(one).removeprefix(f'{tmp_path}/')}\n    {one.hint}\n" for one in found)
    assert f"```\n{shown}```\n" in text


def test_the_adapters_are_those_that_the_program_has() -> None:
    """What an adapter needs and ignores are keys that there are."""
    keys = {key.name for key in configkeys.AGENT}
    for one in ADAPTERS.values():
        assert {*one.facts.ignores, *filter(None, [one.facts.needs])} <= keys


def test_every_field_of_the_settings_has_a_key_with_its_default() -> None:
    for record, keys in ((Limits, configkeys.LIMITS), (Worktrees, configkeys.WORKTREES)):
        assert {key.name: key.default for key in keys} == record._field_defaults
    assert {key.name for key in configkeys.AGENT} == set(Agent._fields) - {"name", "credential"}
    assert {key.name for key in configkeys.CHECK} == set(Check._fields)
    assert {key.name for key in configkeys.SCHEDULE} == set(Schedule._fields) - {"name"}
    assert {key.name for key in configkeys.STAGE} == set(Stage._fields)
    assert {key.name for key in configkeys.FOLLOW} == set(Follow._fields)
    assert {key.name for key in configkeys.FLOW} == set(Flow._fields) - {"name", "lacks", "source"}
    assert {key.name for key in configkeys.ROLE} == set(Role._fields) - {"name", "template", "source", "plain"}


CHECKS = [("tests", 'python -m pytest -q -k "a or b"'), ("lint", "ruff check . && echo 'it: #1' \\ ü\u2028")]


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("checks", [[], CHECKS])
@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_what_init_writes_is_valid(tmp_path: Path, adapter: str, checks: list[tuple[str, str]], found: bool) -> None:
    text = config.template("release/v1.0", checks, adapter, found=found)
    read = config.load(home(tmp_path, text))
    assert read.base == "release/v1.0"
    assert [(check.name, check.run) for check in read.checks] == checks
    assert gates(read) == (["checks", "human"] if checks else ["human"])
    assert ("no checks" in text) is not bool(checks)
    assert [agent.adapter for agent in read.agents.values()] == [adapter]
    assert ("was not found" in text) is not found
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("command", [("./a b", '--x="1"', "é\t"), "./run.sh --fast | tee log"])
def test_what_init_writes_carries_the_command_given(tmp_path: Path, command: str | tuple[str, ...]) -> None:
    text = config.template("", [], "command", command=command, found=False)
    read = config.load(home(tmp_path, text))
    assert (read.base, read.agents["implementer"].command) == ("", command)


@pytest.mark.parametrize("base", ["no", "2024", "true", "a#b", "wip-ü", "x'y"])
def test_what_init_writes_survives_odd_branches(tmp_path: Path, base: str) -> None:
    assert config.load(home(tmp_path, config.template(base, [], "scripted", script="s: p.json"))).base == base


def test_what_init_writes_shows_how_to_add_a_reviewer(tmp_path: Path) -> None:
    text = config.template("main", CHECKS, "claude")
    line = re.search(r"then also: (gates: .*)", text)
    assert line
    text = re.sub(r"^gates: .*$", line[1], text, flags=re.M).replace("  # reviewer:", "  reviewer:")
    assert gates(config.load(home(tmp_path, text))) == ["checks", "gatekeeper", "human"]


def test_what_init_writes_shows_how_to_use_every_flow(tmp_path: Path) -> None:
    text = config.template("main", CHECKS, "claude").replace("  # team:", "  team:")
    assert not [name for name, flow in config.load(home(tmp_path, text)).flows.items() if flow.lacks]


def test_built_in_roles_are_found_without_a_home() -> None:
    assert {"gatekeeper", "implementer"} <= set(rolefiles.builtin_names())
