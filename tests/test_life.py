"""The life of a task, through the command line and real ticks (DESIGN §4, §5, §8)."""

from __future__ import annotations

import json
from typing import Any

from harness import Repo, at_once, commit, drop, eventually, git, init, landed, script, state_of, write_config

from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]


def every(*attempts: list[Any], role: str = "implementer", task: str = "default") -> dict[str, Any]:
    return {"tasks": {task: {role: list(attempts)}}}


def run(repo: Repo, status: int = 0) -> str:
    return repo.octopoid("run", "--until-empty", ok=(status,)).err


def task(repo: Repo, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = repo.octopoid("show", name, "--json").json()
    return shown


def prompt(repo: Repo, name: str, number: int) -> str:
    return (repo.layout.entry(name, number) / "prompt.md").read_text(encoding="utf-8")


def test_a_dropped_file_becomes_a_merged_commit(repo: Repo) -> None:
    script(repo, every(WRITE))
    drop(repo, "plain", "Just text, no front matter.\n")
    run(repo)
    assert state_of(repo, "plain") is State.DONE
    assert landed(repo) == ("plain",)
    assert git(repo, "show", "main:plain.txt") == "work"
    assert git(repo, "status", "--porcelain") == "?? .octopoid/", "the user's checkout followed"
    assert (repo.root / "plain.txt").read_text() == "work\n"
    body = git(repo, "log", "-1", "--format=%B%an", "main")
    assert "Octopoid-Task: plain" in body and "Octopoid-Attempt: 1" in body and "Ada Tester" in body


def test_nothing_of_ours_is_in_the_commit(repo: Repo) -> None:
    script(repo, every(WRITE))
    drop(repo, "clean", "# Clean\n")
    run(repo)
    assert git(repo, "ls-tree", "-r", "--name-only", "main").splitlines() == ["README.md", "clean.txt"]


def test_tasks_wait_for_what_they_depend_on(repo: Repo) -> None:
    script(repo, every(WRITE))
    drop(repo, "second", "---\ndepends_on: [first]\npriority: P0\n---\n# Second\n")
    drop(repo, "first", "# First\n")
    assert "waiting on first" in repo.octopoid("why", "second").out
    run(repo)
    assert landed(repo) == ("first", "second")


def test_a_task_that_breaks_the_checks_is_sent_back_with_the_output_and_then_lands(repo: Repo) -> None:
    bad = [{"write": {"path": "answer.txt", "text": "41\n"}}, {"commit": "First try"}]
    good = [{"write": {"path": "answer.txt", "text": "42\n"}}, {"commit": "Second try"}]
    check = "grep -q 42 answer.txt || { echo the answer is wrong; exit 1; }"
    script(repo, every(bad, good), checks=[{"name": "answer", "run": check}])
    drop(repo, "sum", "# Sum\n")
    run(repo)
    shown = task(repo, "sum")["task"]
    assert (shown["state"], shown["attempts"], shown["rounds"]) == ("done", 2, 1)
    numbers = sorted(int(path.name) for path in repo.layout.entries("sum").iterdir() if path.name.isdecimal())
    second = next(n for n in numbers if (repo.layout.entry("sum", n) / "prompt.md").exists() and n > 1)
    assert "the answer is wrong" in prompt(repo, "sum", second)
    assert git(repo, "show", "main:answer.txt") == "42"
    assert "First try" in git(repo, "log", "--format=%s", "main"), "rework goes on from the last attempt"


def test_rounds_are_capped_and_a_person_is_asked(repo: Repo) -> None:
    change = [{"append": {"path": "x.txt", "text": "again\n"}}]
    script(repo, every(change), checks=[{"name": "never", "run": "echo no luck; false"}], limits={"rounds": 2})
    drop(repo, "stuck", "# Stuck\n")
    run(repo, 6)
    shown = task(repo, "stuck")["task"]
    assert (shown["state"], shown["reason"], shown["rounds"]) == ("blocked", "rejected", 2)
    text = repo.layout.task_file(State.BLOCKED, "stuck").read_text()
    assert "no luck" in text and "octopoid retry stuck" in text


def test_an_executable_criterion_refuses_what_does_not_meet_it(repo: Repo) -> None:
    good = [{"write": {"path": "made.txt", "text": "x\n"}}]
    script(repo, every(WRITE, good), gates=[], checks=[])
    drop(repo, "crit", "# Criteria\n\n## Acceptance criteria\n- [ ] the file is there :: test -f made.txt\n")
    run(repo)
    assert task(repo, "crit")["task"]["rounds"] == 1
    assert git(repo, "show", "main:made.txt") == "x"


def test_failed_attempts_are_counted_and_then_block(repo: Repo) -> None:
    script(repo, every([{"fail": "cannot do it"}]), limits={"attempts": 1})
    drop(repo, "hard", "# Hard\n")
    run(repo, 6)
    shown = task(repo, "hard")["task"]
    assert (shown["state"], shown["reason"]) == ("blocked", "failed")
    assert "cannot do it" in json.dumps(shown)
    repo.octopoid("retry", "hard")
    assert state_of(repo, "hard") is State.INCOMING


def test_an_agent_that_changes_nothing_has_not_done_it(repo: Repo) -> None:
    script(repo, every([{"say": "all done!"}]), limits={"attempts": 1})
    drop(repo, "lazy", "# Lazy\n")
    run(repo, 6)
    shown = task(repo, "lazy")["task"]
    assert shown["state"] == "blocked" and "no changes" in shown["detail"]
    assert landed(repo) == ()


def test_a_missing_program_is_the_machines_fault(repo: Repo) -> None:
    write_config(
        repo,
        "version: 1\nbase: main\ngates: []\n"
        "agents: {implementer: {role: implementer, adapter: command, command: [no-such-program-here]}}\n",
    )
    drop(repo, "none", "# None\n")
    run(repo, 6)
    shown = task(repo, "none")["task"]
    assert (shown["state"], shown["rounds"]) == ("incoming", 0)
    why = repo.octopoid("why", "none").out
    assert "breaker" in why and "no-such-program-here" in why and "resume --agent implementer" in why


def test_a_question_is_asked_in_the_file_and_answered_there(repo: Repo) -> None:
    script(repo, every([{"question": ["Which colour?"]}], WRITE))
    path = drop(repo, "ask", "# Ask\n")
    run(repo, 6)
    assert state_of(repo, "ask") is State.BLOCKED
    path = repo.layout.task_file(State.BLOCKED, "ask")
    text = path.read_text()
    assert "Which colour?" in text
    path.write_text(text.replace("\n\nAnswer:", "\n\nAnswer: blue"))
    run_until_done(repo, "ask")
    assert any("blue" in one.read_text() for one in repo.layout.entries("ask").glob("*/prompt.md"))
    assert task(repo, "ask")["task"]["rounds"] == 0


def run_until_done(repo: Repo, name: str) -> None:
    with repo.background("run"):
        eventually(lambda: state_of(repo, name) is State.DONE, 20, f"{name} is not done")


def test_answer_on_the_command_line(repo: Repo) -> None:
    script(repo, every([{"question": ["Which colour?"]}], WRITE))
    drop(repo, "ask", "# Ask\n")
    run(repo, 6)
    needs = repo.octopoid("status", "--json").json()["needs_you"]
    assert [one["task"] for one in needs] == ["ask"]
    repo.octopoid("answer", "ask", "-m", "green")
    run(repo)
    assert any("green" in one.read_text() for one in repo.layout.entries("ask").glob("*/prompt.md"))


REVIEWED = {
    "agents": {
        "implementer": {"role": "implementer", "adapter": "scripted", "script": ".octopoid/scripted.json"},
        "reviewer": {"role": "gatekeeper", "adapter": "scripted", "script": ".octopoid/scripted.json"},
    },
    "gates": ["checks", "gatekeeper"],
}


def test_a_reviewer_refuses_once_and_its_words_reach_the_next_prompt(repo: Repo) -> None:
    second = [{"append": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "more\n"}}]
    roles = {"implementer": [WRITE, second], "gatekeeper": [[{"reject": "needs more work"}], [{"accept": "good"}]]}
    script(repo, {"tasks": {"default": roles}}, **REVIEWED)
    drop(repo, "rev", "# Rev\n")
    run(repo)
    shown = task(repo, "rev")
    assert shown["task"]["rounds"] == 1
    assert any("needs more work" in one.read_text() for one in repo.layout.entries("rev").glob("*/prompt.md"))
    candidates = {one["candidate"] for one in shown["verdicts"] if one["gate"] == "gatekeeper"}
    assert len(candidates) == 2, "each verdict is about one candidate"


def test_a_reviewer_that_says_nothing_is_not_a_yes(repo: Repo) -> None:
    roles = {"implementer": [WRITE], "gatekeeper": [[{"say": "looks great, approved!"}]]}
    script(repo, {"tasks": {"default": roles}}, **REVIEWED, limits={"attempts": 1})
    drop(repo, "rev", "# Rev\n")
    run(repo, 6)
    shown = task(repo, "rev")["task"]
    assert shown["state"] == "blocked" and "no verdict" in shown["detail"]
    assert landed(repo) == ()


def test_what_a_reviewer_writes_is_thrown_away(repo: Repo) -> None:
    meddle = [{"write": {"path": "smuggled.txt", "text": "x\n"}}, {"commit": "Smuggle"}, {"accept": "fine"}]
    script(repo, {"tasks": {"default": {"implementer": [WRITE], "gatekeeper": [meddle]}}}, **REVIEWED)
    drop(repo, "rev", "# Rev\n")
    run(repo)
    assert "smuggled.txt" not in git(repo, "ls-tree", "-r", "--name-only", "main")
    facts = [json.loads(one.read_text()) for one in repo.layout.entries("rev").glob("*/facts.json")]
    assert ["smuggled.txt"] in [one.get("changed") for one in facts]


def test_a_person_approves(repo: Repo) -> None:
    script(repo, every(WRITE), gates=["checks", "human"])
    drop(repo, "mine", "# Mine\n")
    run(repo, 6)
    assert state_of(repo, "mine") is State.PROVISIONAL
    status = repo.octopoid("status", "--json").json()
    assert [(one["task"], one["reason"]) for one in status["needs_you"]] == [("mine", "human")]
    assert "mine.txt" in repo.octopoid("diff", "mine").out
    repo.octopoid("approve", "mine")
    run(repo)
    assert landed(repo) == ("mine",)


def test_a_person_rejects_with_words(repo: Repo) -> None:
    second = [{"append": {"path": "mine.txt", "text": "better\n"}}]
    script(repo, every(WRITE, second), gates=["human"])
    drop(repo, "mine", "# Mine\n")
    run(repo, 6)
    repo.octopoid("reject", "mine", "-m", "make it better")
    run(repo, 6)
    assert state_of(repo, "mine") is State.PROVISIONAL
    assert any("make it better" in one.read_text() for one in repo.layout.entries("mine").glob("*/prompt.md"))
    assert task(repo, "mine")["task"]["rounds"] == 0, "a person's no gives a new budget"


def test_a_candidate_that_touches_the_policy_waits_for_a_person(repo: Repo) -> None:
    script(
        repo,
        every(
            [
                {"write": {"path": ".octopoid/agents.yaml", "text": "version: 1\n"}},
                {"run": "git add -f .octopoid/agents.yaml"},
            ]
        ),
    )
    drop(repo, "sly", "# Sly\n")
    run(repo, 6)
    assert state_of(repo, "sly") is State.PROVISIONAL
    assert repo.octopoid("status", "--json").json()["needs_you"][0]["reason"] == "human"


def landing(repo: Repo, mode: str) -> None:
    two = [
        {"write": {"path": "a.txt", "text": "a\n"}},
        {"commit": "Add a"},
        {"write": {"path": "b.txt", "text": "b\n"}},
        {"commit": "Add b"},
    ]
    script(repo, every(two), land={"mode": mode})
    drop(repo, "two", "# Two commits\n")
    run(repo)


def test_land_squash(repo: Repo) -> None:
    landing(repo, "squash")
    assert git(repo, "log", "--format=%s", "main").splitlines() == ["Two commits", "First commit"]
    assert landed(repo) == ("two",)


def test_land_rebase(repo: Repo) -> None:
    landing(repo, "rebase")
    assert git(repo, "log", "--format=%s", "main").splitlines() == ["Add b", "Add a", "First commit"]


def test_land_none_leaves_a_branch(repo: Repo) -> None:
    before = git(repo, "rev-parse", "main")
    landing(repo, "none")
    assert git(repo, "rev-parse", "main") == before
    assert git(repo, "log", "--format=%s", "octopoid/two").splitlines()[:2] == ["Add b", "Add a"]
    assert state_of(repo, "two") is State.DONE


def test_a_base_that_moves_during_the_gates_is_checked_again_on_the_new_tree(repo: Repo) -> None:
    gate = repo.root.parent / "gate"
    hold = f"touch {gate}; while [ -e {gate}.hold ]; do sleep 0.05; done"
    check = f"echo run >> {repo.root.parent}/runs; {hold}; test -f work.txt"
    (repo.root.parent / "gate.hold").touch()
    script(repo, every([{"write": {"path": "work.txt", "text": "x\n"}}]), checks=[{"name": "slow", "run": check}])
    drop(repo, "moved", "# Moved\n")
    with repo.background("run"):
        eventually(gate.exists, 15, "the checks did not start")
        theirs = commit(repo, {"theirs.txt": "theirs\n"}, "Meanwhile")
        (repo.root.parent / "gate.hold").unlink()
        eventually(lambda: state_of(repo, "moved") is State.DONE, 20, "it did not land")
    assert (repo.root.parent / "runs").read_text().count("run") == 2
    assert theirs in git(repo, "log", "--format=%H", "main")
    assert git(repo, "ls-tree", "--name-only", "main").splitlines() == ["README.md", "theirs.txt", "work.txt"]


def test_a_conflict_goes_back_with_both_sides_named_and_lands_when_it_is_merged(repo: Repo) -> None:
    start, go = repo.root.parent / "started", repo.root.parent / "go"
    first = [
        {"touch": str(start)},
        {"wait_for": str(go)},
        {"write": {"path": "README.md", "text": "ours\n"}},
        {"commit": "Ours"},
    ]
    merge = [
        {"run": "git merge -q -X ours main || true"},
        {"append": {"path": "README.md", "text": "both\n"}},
        {"commit": "Both"},
    ]
    script(repo, every(first, merge))
    drop(repo, "clash", "# Clash\n")
    with repo.background("run"):
        eventually(start.exists, 15, "the agent did not start")
        commit(repo, {"README.md": "theirs\n"}, "Theirs")
        go.touch()
        eventually(lambda: state_of(repo, "clash") is State.DONE, 20, "it did not land")
    assert git(repo, "show", "main:README.md") == "ours\nboth"
    assert "Theirs" in git(repo, "log", "--format=%s", "main")
    prompts = [one.read_text() for one in repo.layout.entries("clash").glob("*/prompt.md")]
    assert any("README.md" in one and "conflict" in one for one in prompts)


def test_a_dirty_checkout_makes_the_landing_wait_and_is_not_touched(repo: Repo) -> None:
    script(repo, every([{"write": {"path": "README.md", "text": "agent\n"}}]))
    (repo.root / "README.md").write_text("my unsaved thoughts\n")
    drop(repo, "wait", "# Wait\n")
    drop(repo, "other", "---\npriority: P3\n---\n# Other\n")
    script(
        repo,
        {
            "tasks": {
                "wait": {"implementer": [[{"write": {"path": "README.md", "text": "agent\n"}}]]},
                "default": {"implementer": [WRITE]},
            }
        },
    )
    run(repo, 6)
    assert (repo.root / "README.md").read_text() == "my unsaved thoughts\n"
    assert state_of(repo, "wait") is State.PROVISIONAL
    assert state_of(repo, "other") is State.DONE, "nobody else waits for it"
    needs = repo.octopoid("status", "--json").json()["needs_you"]
    assert [one["task"] for one in needs] == ["wait"] and "uncommitted" in needs[0]["detail"]
    git(repo, "checkout", "README.md")
    run(repo)
    assert (repo.root / "README.md").read_text() == "agent\n"


def test_a_rebase_in_progress_makes_the_landing_wait(repo: Repo) -> None:
    script(repo, every(WRITE))
    commit(repo, {"README.md": "one\n"}, "One")
    env = {**repo.env, "GIT_SEQUENCE_EDITOR": "sed -i s/^pick/edit/"}
    repo._replace(env=env)
    git(repo._replace(env=env), "rebase", "-q", "-i", "HEAD~1")
    drop(repo, "later", "# Later\n")
    run(repo, 6)
    assert state_of(repo, "later") is State.PROVISIONAL
    git(repo, "rebase", "--continue")
    run(repo)
    assert landed(repo) == ("later",)


def test_the_users_hooks_run_and_a_refusal_goes_back(repo: Repo) -> None:
    hook = repo.root / ".git/hooks/commit-msg"
    hook.write_text(
        "#!/bin/sh\ngrep -q 'Octopoid-Task' \"$1\" || exit 0\ntest -f ok.txt || { echo no ok file; exit 1; }\n"
    )
    hook.chmod(0o755)
    second = [{"write": {"path": "ok.txt", "text": "ok\n"}}]
    script(repo, every(WRITE, second), limits={"attempts": 2})
    drop(repo, "hook", "# Hook\n")
    with repo.background("run"):
        at_once(repo, "hook")
        eventually(lambda: state_of(repo, "hook") is State.DONE, 40, "it did not land after the hook was content")
    assert any("no ok file" in one.read_text() for one in repo.layout.entries("hook").glob("*/prompt.md"))


def test_setup_runs_once_per_worktree_and_its_ignored_files_stay(repo: Repo) -> None:
    commit(repo, {".gitignore": "deps/\n"}, "Ignore deps")
    first = [{"run": "test -f deps/installed"}, {"write": {"path": "a.txt", "text": "1\n"}}]
    again = [{"run": "test -f deps/installed"}, {"write": {"path": "b.txt", "text": "1\n"}}]
    setup = "mkdir -p deps && echo x >> deps/installed && test $(wc -l < deps/installed) = 1"
    checks = [{"name": "deps", "run": "test -f deps/installed && test -f b.txt"}]
    script(repo, every(first, again), worktrees={"setup": setup}, checks=checks)
    drop(repo, "deps", "# Deps\n")
    run(repo)
    assert state_of(repo, "deps") is State.DONE


def test_a_setup_that_fails_is_charged_to_nobody(repo: Repo) -> None:
    script(repo, every(WRITE), worktrees={"setup": "echo no network; false"})
    drop(repo, "deps", "# Deps\n")
    run(repo, 6)
    shown = task(repo, "deps")["task"]
    assert shown["state"] == "incoming"
    assert "no network" in repo.octopoid("why", "deps").out


def test_worktreeinclude_brings_ignored_files_along(repo: Repo) -> None:
    commit(repo, {".gitignore": ".env\nsecret.txt\n", ".worktreeinclude": ".env\n"}, "Ignore")
    (repo.root / ".env").write_text("A=1\n")
    (repo.root / "secret.txt").write_text("no\n")
    script(repo, every([{"run": "test -f .env && ! test -e secret.txt"}, *WRITE]))
    drop(repo, "env", "# Env\n")
    run(repo)
    assert state_of(repo, "env") is State.DONE


def test_the_second_task_takes_over_the_worktree_of_the_first(repo: Repo) -> None:
    script(repo, every(WRITE))
    for name in ("one", "two"):
        drop(repo, name, f"# {name}\n")
        run(repo)
    assert [path.name for path in (repo.layout.home / "worktrees").iterdir()] == ["two"]
    assert landed(repo) == ("one", "two")


def test_the_environment_of_an_agent_is_an_allow_list(repo: Repo) -> None:
    init(repo)
    script(repo, every([{"run": "env > seen.txt"}]))
    drop(repo, "env", "# Env\n")
    secret = {"MY_SECRET": "hunter2", "CLAUDECODE": "1", "GIT_DIR": "/nowhere"}
    repo.octopoid("run", "--until-empty", env=secret)
    seen = git(repo, "show", "main:seen.txt")
    assert "hunter2" not in seen and "CLAUDECODE" not in seen and "GIT_DIR=" not in seen
    names = {line.partition("=")[0] for line in seen.splitlines()}
    wanted = "TASK_ID TASK_FILE PROMPT_FILE RESULT_FILE ARTIFACTS ROLE STAGE ATTEMPT ATTEMPT_DIR BASE_SHA SLOT ROOT"
    assert {f"OCTOPOID_{name}" for name in wanted.split()} <= names


def test_task_text_never_reaches_a_shell(repo: Repo) -> None:
    script(repo, every(WRITE))
    canary = repo.root.parent / "canary"
    evil = f"$(touch {canary}) `touch {canary}`; touch {canary}; --upload-pack=x\x1b[31m"
    drop(repo, "evil", f"---\nlabels: ['$(touch {canary})']\n---\n# {evil}\n\n{evil}\n")
    run(repo)
    assert state_of(repo, "evil") is State.DONE
    assert not canary.exists()


def test_usage_is_added_up_and_unknown_is_not_zero(repo: Repo) -> None:
    paid = [*WRITE, {"result": {"outcome": "done", "usage": {"usd": 0.25, "input_tokens": 10, "output_tokens": 2}}}]
    script(repo, {"tasks": {"paid": {"implementer": [paid]}, "default": {"implementer": [WRITE]}}})
    drop(repo, "paid", "# Paid\n")
    drop(repo, "free", "# Free\n")
    run(repo)
    assert task(repo, "paid")["task"]["usd"] == 0.25
    assert task(repo, "free")["task"]["usd"] is None


def test_the_days_budget_stops_before_starting(repo: Repo) -> None:
    paid = [*WRITE, {"result": {"outcome": "done", "usage": {"usd": 3.0}}}]
    script(repo, every(paid), limits={"usd_per_day": 2})
    drop(repo, "a-first", "---\npriority: P0\n---\n# First\n")
    run(repo)
    drop(repo, "second", "# Second\n")
    run(repo, 6)
    assert state_of(repo, "second") is State.INCOMING
    assert "usd_per_day" in repo.octopoid("why", "second").out


def test_notify_is_told_what_waits_for_a_person(repo: Repo) -> None:
    told = repo.root.parent / "told"
    script(
        repo,
        every(WRITE),
        gates=["human"],
        notify={"command": ["sh", "-c", f"echo $OCTOPOID_EVENT_KIND $OCTOPOID_EVENT_TASK >> {told}"]},
    )
    drop(repo, "mine", "# Mine\n")
    run(repo, 6)
    eventually(told.exists, 10, "nobody was told")
    assert told.read_text() == "human mine\n"


def test_the_journal_tells_the_whole_story(repo: Repo) -> None:
    script(repo, every(WRITE))
    drop(repo, "story", "# Story\n")
    run(repo)
    events = repo.octopoid("events", "--json").json()["events"]
    assert [one["event"] for one in events if one["task"] == "story"] == ["enqueue", "claim", "submit", "land"]


def test_a_slow_hook_in_the_users_checkout_holds_nobody_up(repo: Repo) -> None:
    place = repo.root.parent
    hook = repo.root / ".git/hooks/post-merge"
    hook.write_text(f"#!/bin/sh\ntouch {place}/hooked\nwhile [ -e {place}/hold ]; do sleep 0.05; done\n")
    hook.chmod(0o755)
    (place / "hold").touch()
    script(repo, every(WRITE))
    drop(repo, "slow", "# Slow\n")
    with repo.background("run"):
        eventually((place / "hooked").exists, 20, "the hook did not run")
        drop(repo, "next", "# Next\n")
        eventually(lambda: state_of(repo, "next") is State.PROVISIONAL, 20, "the scheduler waits for the hook")
        assert state_of(repo, "slow") is State.PROVISIONAL, "not done before git is"
        (place / "hold").unlink()
        eventually(lambda: state_of(repo, "next") is State.DONE, 20)
    assert landed(repo) == ("slow", "next")
