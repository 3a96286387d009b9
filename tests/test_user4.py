"""What somebody meets who lives with agent programs: what is missing and how to get it, what holds the queue up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Repo, drop, init, script, write_config
from test_cost import every, paid, run

from octopoid import clock, steer
from octopoid.adapters import ADAPTERS
from octopoid.model import Breaker

BARE = {"PATH": "/usr/bin:/bin"}
"""Where none of the agent programs is."""


def findings(repo: Repo, code: str, env: dict[str, str] | None = None) -> list[dict[str, str]]:
    """What `octopoid doctor` says under `code`."""
    found = repo.octopoid("doctor", "--json", ok=(0, 1), env=env).json()["findings"]
    return [one for one in found if one["code"] == code]


# --- what is missing ---


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_what_init_writes_is_valid_and_says_how_to_install_it(repo: Repo, name: str) -> None:
    facts = ADAPTERS[name].facts
    said = repo.octopoid("init", "-y", "--adapter", name, env=BARE)
    repo.octopoid("config", "check")
    policy = (repo.root / ".octopoid/agents.yaml").read_text()
    if facts.install:
        assert f"to install it: {facts.install}" in said.err
        assert f"install it ({facts.install}) before `octopoid run`" in policy
        found = findings(repo, "agent-program", BARE)
        assert f"install it ({facts.install}), put its folder on PATH" in found[0]["fix"]
    if facts.keys:
        assert f"no login of it was found here: set {facts.keys[0]} where" in said.err
        assert facts.login in said.err
    assert ("no login" in said.err) is bool(facts.keys)
    if facts.needs == "model":
        assert policy.count("model:") == 1


def test_doctor_says_when_an_agent_has_nothing_to_log_in_with(repo: Repo) -> None:
    repo.octopoid("init", "-y", "--adapter", "codex")
    (found,) = findings(repo, "agent-env")
    assert "CODEX_API_KEY is not set here" in found["message"] and "no login was found either" in found["message"]
    assert found["severity"] == "warning" and found["fix"].endswith("is started, or run `codex login`")
    assert not findings(repo, "agent-env", {"CODEX_API_KEY": "k"})
    login = Path(repo.env["HOME"]) / ".codex/auth.json"
    login.parent.mkdir()
    login.write_text("{}")
    (found,) = findings(repo, "agent-env")
    assert found["severity"] == "info" and "a login counts" in found["message"]
    write_config(repo, "version: 1\ngates: [human]\nagents:\n  implementer: {adapter: codex}\n")
    assert not findings(repo, "agent-env")
    login.unlink()
    (found,) = findings(repo, "agent-env")
    assert found["fix"] == "name CODEX_API_KEY in its `env`, or run `codex login`"


@pytest.mark.parametrize("more", ['base_url: "http://127.0.0.1:9"', "env: [PATH]"])
def test_doctor_does_not_ask_for_a_login_that_may_not_be_needed(repo: Repo, more: str) -> None:
    repo.octopoid("init", "-y", "--adapter", "anthropic")
    write_config(
        repo, f"version: 1\ngates: [human]\nagents:\n  implementer: {{adapter: anthropic, model: llama, {more}}}\n"
    )
    assert not findings(repo, "agent-env")


# --- what holds the queue up ---


@pytest.mark.parametrize("limit", ["usd_per_day", "usd_per_role"])
def test_the_board_says_that_a_budget_of_the_day_is_spent(repo: Repo, limit: str) -> None:
    of = 1 if limit == "usd_per_day" else {"implementer": 1}
    script(repo, every(paid(2)), gates=[], limits={limit: of})
    drop(repo, "one", "# One\n")
    run(repo)
    drop(repo, "two", "# Two\n")
    (task,) = repo.octopoid("list", "--json", "--state", "incoming").json()["tasks"]
    assert (task["reason"], task["ready"]) == ("budget", False)
    assert "$2.00 of $1.00 are spent today" in task["detail"] and "after midnight" in task["detail"]
    assert "after midnight" in repo.octopoid("status").out
    script(repo, every(paid(2)), gates=[], limits={limit: 5 if limit == "usd_per_day" else {"implementer": 5}})
    (task,) = repo.octopoid("list", "--json", "--state", "incoming").json()["tasks"]
    assert task["ready"] is True


def test_cost_names_the_models_that_have_no_price(repo: Repo) -> None:
    script(repo, every(paid(input_tokens=5, output_tokens=1)), gates=[])
    drop(repo, "one", "# One\n")
    run(repo)
    assert "costs is not known" not in repo.octopoid("cost").err, "nobody knows which model it was"
    outcome = repo.layout.entry("one", 1) / "outcome.json"
    outcome.write_text(json.dumps({**json.loads(outcome.read_text()), "model": "nobody-knows"}))
    assert "what nobody-knows costs is not known: say it under `prices:`" in repo.octopoid("cost").err
    script(repo, every(paid()), gates=[], prices={"nobody-knows": {"input": 1, "output": 1}})
    assert "costs is not known" not in repo.octopoid("cost").err, "it is from now on"


# --- words ---


def test_resume_knows_its_agents(repo: Repo) -> None:
    init(repo)
    assert "no agent `nobody`" in repo.octopoid("resume", "--agent", "nobody", ok=(3,)).err
    repo.octopoid("pause", "--agent", "implementer")
    write_config(repo, "version: 1\ngates: []\nagents:\n  other: {role: implementer, adapter: scripted, script: x}\n")
    assert "resumed" in repo.octopoid("resume", "--agent", "implementer").err, "it was paused, and is gone since"


def test_a_breaker_that_passes_does_not_ask_for_a_person(repo: Repo) -> None:
    init(repo)
    now = clock.parse("2999-01-01T00:00:00.000Z")
    for name, passing in (("limit", True), ("login", False)):
        news = Breaker(name, "why", now, 0, 0, "mend it", ("implementer",), passing=passing)
        steer.trip(repo.layout, news, now)
    limit, login = findings(repo, "breaker-open")
    assert limit["fix"] == "mend it; it goes on by itself then, or at once with: octopoid resume --breaker limit"
    assert login["fix"] == "mend it; then: octopoid resume --breaker login"
