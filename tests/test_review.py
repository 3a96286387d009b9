"""What a hostile reading of the core found: crash windows, races with a person, hot loops, stuck tasks."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from harness import OCTOPOID, Repo, commit, drop, eventually, git, landed, marked, places, script, state_of

from octopoid import attempts, gates, judging, landing, lifecycle, merging, policy
from octopoid import fold as folding
from octopoid.applying import Moment
from octopoid.deliverables import Frame, Remains
from octopoid.evidence import Exit, Facts, StepExit
from octopoid.model import (
    Breaker,
    Entry,
    Item,
    Ledger,
    Opening,
    Outcome,
    Result,
    Task,
    Verdict,
)
from octopoid.plans import Base, Land, Live, Projection, Snapshot, Start
from octopoid.scheduler import Scheduler
from octopoid.settings import Agent, Check, Config, Flow, Gate, Limits, Role, Stage
from octopoid.states import State

NOW = 10_000.0
WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]


def every(*attempts: list[Any], role: str = "implementer", task: str = "default") -> dict[str, Any]:
    return {"tasks": {task: {role: list(attempts)}}}


def held(repo: Repo) -> list[Any]:
    return [{"touch": str(repo.root.parent / "started")}, {"wait_for": str(repo.root.parent / "go")}, *WRITE]


def started(repo: Repo) -> None:
    eventually((repo.root.parent / "started").exists, 20, "the agent did not start")


def let_go(repo: Repo) -> None:
    (repo.root.parent / "go").touch()


def empty(repo: Repo, seconds: float = 25.0, status: tuple[int, ...] | None = None) -> int:
    """`run --until-empty` that must come back by itself; its exit status."""
    try:
        answer = repo.octopoid("run", "--until-empty", ok=status, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode()[-1500:] if isinstance(error.stderr, bytes) else str(error.stderr)[-1500:]
        raise AssertionError(f"--until-empty did not come back within {seconds} s:\n{said}") from None
    return answer.status


def shown(repo: Repo, name: str) -> dict[str, Any]:
    view: dict[str, Any] = repo.octopoid("show", name, "--json").json()["task"]
    return view


def outcomes(repo: Repo, name: str) -> list[dict[str, Any]]:
    return [json.loads(one.read_text()) for one in sorted(repo.layout.entries(name).glob("*/outcome.json"))]


# --- pure: policy, fold, judging ---

CHECKS = (Check("tests", "pytest"),)
KEY = gates.checks_key(CHECKS)
ONTO = Projection("base", "tree", "result")


def config(*gate_names: str, land: str = "merge", **more: object) -> Config:
    agents = {"impl": Agent("impl", "implementer", "command", instances=2)}
    groups = tuple((Gate(name),) for name in gate_names or ("checks",))
    flow = Flow("default", (Stage("implement", "implementer"),), groups, land)
    roles = {name: Role(name, "") for name in ("implementer", "gatekeeper")}
    return Config("main", agents, roles, {"default": flow}, checks=CHECKS)._replace(**more)


def item(name: str = "a", state: State = State.INCOMING, ledger: Ledger | None = None, **task: object) -> Item:
    made = Task(name, name.title())._replace(**task)
    path = Path(f"/q/{state.value}/{name}.md")
    return Item(name, state, path, 1_000.0, made, None, ledger if ledger is not None else Ledger())


def snapshot(*items: Item, **more: object) -> Snapshot:
    made = Snapshot(items, {one.id: one.state for one in items}, bases={"main": Base("main", "base")})
    return made._replace(**more)


def test_no_decision_asks_to_be_woken_in_the_past() -> None:
    """A probe runs behind an open breaker whose time is over: the loop must not spin until the probe ends."""
    probe = Entry(1, Opening("attempt", 5.0, agent="impl", role="implementer"), True, moved=frozenset({"claimed"}))
    running = item("a", State.CLAIMED, Ledger(expected="claimed", open=probe))
    plan = policy.plan(
        snapshot(
            running,
            item("b"),
            live={"a": Live(True, True)},
            breakers={"agent:impl": Breaker("agent:impl", "401", 1.0, NOW - 60, 1)},
        ),
        config(),
        NOW,
    )
    assert not plan.actions and plan.decisions["b"].waits == "breaker"
    until = policy.next_time(plan)
    assert until == 0.0 or until > NOW, "the daemon would tick a hundred times a second"


def test_new_work_with_the_tree_of_older_verified_work_is_not_stuck() -> None:
    """A reviewer wanted a better commit message: another commit, the same tree."""
    yes = Verdict("checks", True, "older", "tree", KEY, 1.0, "scheduler", 2, "")
    one = item("a", State.PROVISIONAL, Ledger(expected="provisional", candidate="newer", verdicts=(yes,)))
    decision = policy.plan(snapshot(one, projections={"a": ONTO}), config(), NOW).decisions["a"]
    assert isinstance(decision.action, Land), decision


def test_a_task_whose_environment_always_fails_does_not_take_every_probe() -> None:
    """LESSONS 21: a failing P0 is the probe each time, and the others never get a turn."""
    entries = [
        Entry(
            number,
            Opening("attempt", 100.0 * number, role="implementer", agent="impl", attempt=number),
            True,
            True,
            Outcome(
                "attempt", "environment", False, "failed", "setup", 100.0 * number + 50, breaker="agent:impl"
            )._replace(verb="retry", leaves="claimed", enters="incoming"),
            frozenset({"claimed", "incoming"}),
        )
        for number in range(1, 8)
    ]
    bad = item("bad", ledger=folding.fold(entries), priority=0)
    breakers = {"agent:impl": Breaker("agent:impl", "setup", 1.0, NOW - 1, 7)}
    plan = policy.plan(snapshot(bad, item("good"), breakers=breakers), config(), NOW)
    assert [action.task for action in plan.actions if isinstance(action, Start)] == ["good"]


def test_a_provisional_task_says_when_its_base_is_gone() -> None:
    one = item("a", State.PROVISIONAL, Ledger(expected="provisional", candidate="c"))
    decision = policy.plan(snapshot(one, bases={"main": Base("main", None)}), config(), NOW).decisions["a"]
    assert decision.waits == "no base", decision


def test_a_clock_that_was_set_back_does_not_stretch_a_backoff() -> None:
    """FAULTS 4: a failure `ended` a year ahead of the clock."""
    one = item("a", ledger=Ledger(expected="incoming", retry_at=NOW + 365 * 86400.0, detail="it broke"))
    assert isinstance(policy.plan(snapshot(one), config(), NOW).decisions["a"].action, Start)


def test_reopened_work_counts_as_refused() -> None:
    landing = Opening("landing", 300.0, result_sha="r", candidate="c1")
    entries = [
        Entry(
            1,
            Opening("attempt", 100.0, role="implementer", attempt=1),
            True,
            True,
            Outcome("attempt", "ok", False, "", "", 150.0, candidate="c1", verb="submit", leaves="claimed")._replace(
                enters="provisional"
            ),
            frozenset({"claimed", "provisional"}),
        ),
        Entry(
            2,
            landing,
            False,
            False,
            Outcome("landing", "ok", False, "", "", 350.0, verb="land", leaves="provisional", enters="done"),
            frozenset({"done"}),
        ),
        Entry(3, Opening("reopen", 400.0, by="person", to="incoming")),
    ]
    assert "c1" in folding.fold(entries).refused


def ended(*steps: StepExit, stopped: bool = False) -> Exit:
    return Exit(1.0, stopped, steps)


def test_work_that_was_finished_before_the_stop_arrived_is_not_thrown_away() -> None:
    agent, collect = (StepExit(name, 0, None, "exit", 0, 0) for name in ("agent", "commit"))
    facts = Facts(head="h", tree="t2", merge_base="b", merge_base_tree="t1")
    remains = Remains(ended(agent, collect), facts, None, Result(), "", "", "scheduler stop", True)
    opening = Opening("attempt", 1.0, role="implementer", agent="impl", attempt=1)
    assert judging.judge(opening, remains, Ledger(), Frame(Limits(), 3), NOW).verb == "submit"


def test_a_built_in_step_that_somebody_killed_is_charged_to_nobody() -> None:
    agent, collect = StepExit("agent", 0, None, "exit", 0, 0), StepExit("commit", None, 9, "exit", 0, 0)
    remains = Remains(ended(agent, collect), Facts(), None, Result(), "", "", "", True)
    opening = Opening("attempt", 1.0, role="implementer", agent="impl", attempt=1)
    outcome = judging.judge(opening, remains, Ledger(), Frame(Limits(), 3), NOW)
    assert (outcome.class_, outcome.charged, outcome.verb) == ("ours", False, "retry")


# --- the whole loop ---


def scheduler(repo: Repo) -> Scheduler:
    return Scheduler(repo.layout, dict(repo.env), lambda _text: None)


def planned(one: Scheduler) -> tuple[policy.Plan, Moment]:
    settings = one.policy.current()
    look = one.observer.look()
    now = time.time()
    seen = one.surveyor.snapshot(look, settings, {}, "", now)
    return policy.plan(seen, settings, now), Moment(look, settings, now)


def test_what_a_person_rejected_a_moment_ago_does_not_land(repo: Repo) -> None:
    """The verb had the landing lock, and said that the task is back in incoming; the plan was made before."""
    script(repo, every(WRITE), gates=["human"])
    drop(repo, "no", "# No\n")
    empty(repo)
    repo.octopoid("approve", "no")
    one = scheduler(repo)
    plan, moment = planned(one)
    assert [type(action) for action in plan.actions] == [Land]
    before = git(repo, "rev-parse", "main")
    repo.octopoid("reject", "no", "-m", "changed my mind")
    one.hands.apply(plan.actions[0], moment)
    assert state_of(repo, "no") is State.INCOMING
    assert git(repo, "rev-parse", "main") == before, "rejected work landed"


def test_a_cancelled_task_does_not_land_behind_its_back(repo: Repo) -> None:
    script(repo, every(WRITE), gates=["human"])
    drop(repo, "no", "# No\n")
    empty(repo)
    repo.octopoid("approve", "no")
    one = scheduler(repo)
    plan, moment = planned(one)
    before = git(repo, "rev-parse", "main")
    repo.octopoid("cancel", "no")
    one.hands.apply(plan.actions[0], moment)
    assert git(repo, "rev-parse", "main") == before, "cancelled work landed"


def test_a_hand_mv_while_the_base_moves_leaves_what_landed_done(repo: Repo) -> None:
    """DESIGN §4: the base decides. Here the mv comes while the user's post-merge hook runs."""
    script(repo, every(WRITE, [{"append": {"path": "mv.txt", "text": "again\n"}}]), gates=[])
    source, target = (repo.layout.task_file(one, "mv") for one in (State.PROVISIONAL, State.INCOMING))
    hook = repo.root / ".git/hooks/post-merge"
    hook.write_text(f"#!/bin/sh\ntest -e {source} && mv {source} {target}\ntrue\n")
    hook.chmod(0o755)
    drop(repo, "mv", "# Mv\n")
    empty(repo)
    assert state_of(repo, "mv") is State.DONE
    assert landed(repo) == ("mv",), "it was worked on and landed again"


def test_a_kill_after_the_base_moved_and_then_a_hand_mv_leaves_what_landed_done(repo: Repo) -> None:
    """The landing's evidence is written, the file was not renamed yet; a person moves it before the next start."""
    script(repo, every(WRITE, [{"append": {"path": "mv.txt", "text": "again\n"}}]), gates=["human"])
    drop(repo, "mv", "# Mv\n")
    empty(repo)
    repo.octopoid("approve", "mv")
    plan, moment = planned(scheduler(repo))
    land = plan.actions[0]
    assert isinstance(land, Land)
    one = moment.look.get("mv")
    assert one is not None
    begun, opening = landing.begin(repo.layout, one, "main", land.projection, moment.now)
    assert merging.advance(repo.root, base="main", old=opening.onto, new=opening.result_sha).done
    outcome = Outcome("landing", "ok", False, "", "landed", moment.now, candidate=opening.candidate)
    attempts.close(repo.layout, "mv", begun.number, outcome._replace(verb="land", leaves="provisional", enters="done"))
    repo.layout.task_file(State.PROVISIONAL, "mv").rename(repo.layout.task_file(State.INCOMING, "mv"))
    empty(repo)
    assert state_of(repo, "mv") is State.DONE
    assert landed(repo) == ("mv",)


def test_a_supervised_landing_does_not_land_what_was_rejected_before_it_had_the_lock(repo: Repo) -> None:
    script(repo, every(WRITE), gates=["human"])
    hook = repo.root / ".git/hooks/post-merge"
    hook.write_text("#!/bin/sh\ntrue\n")
    hook.chmod(0o755)
    drop(repo, "no", "# No\n")
    empty(repo)
    repo.octopoid("approve", "no")
    before = git(repo, "rev-parse", "main")
    with repo.background("run"):
        with lifecycle.landing_lock(repo.layout, "main"):  # `octopoid reject` has it
            eventually(lambda: list(repo.layout.entries("no").glob("[0-9]*/landing.json")), 10)
            number = max(int(path.parent.name) for path in repo.layout.entries("no").glob("[0-9]*/landing.json"))
            eventually((repo.layout.entry("no", number) / "pid").exists, 10)
            opening = Opening(
                "reject", time.time(), by="person", gate="human", candidate=shown(repo, "no")["candidate"]
            )
            lifecycle._person_move(repo.layout, "no", opening, "reject", State.PROVISIONAL, "no", time.time())
            repo.octopoid("pause")
        eventually(lambda: (repo.layout.entry("no", number) / "outcome.json").exists(), 20)
    assert git(repo, "rev-parse", "main") == before, "rejected work landed"
    assert state_of(repo, "no") is State.INCOMING


@pytest.mark.messy_books("the file that was saved is in no entry")
def test_an_editors_save_behind_a_claim_does_not_hang_the_loop_when_the_attempt_fails(repo: Repo) -> None:
    """Guard `occupied`: the task stays, both paths are shown; nothing spins (DESIGN §4)."""
    script(repo, every([*held(repo), {"fail": "no"}]))
    drop(repo, "edit", "# Edit\n")
    log = repo.root.parent / "until-empty.log"
    with log.open("wb") as output:
        loop = subprocess.Popen(
            [str(OCTOPOID), "run", "--until-empty"], cwd=repo.root, env=dict(repo.env), stdout=output, stderr=output
        )
    try:
        started(repo)
        drop(repo, "edit", "# Saved behind the claim\n")
        let_go(repo)
        eventually(lambda: loop.poll() is not None, 20, "--until-empty never comes back")
    finally:
        loop.kill()
        loop.wait()
    assert loop.returncode == 6
    assert len(places(repo, "edit")) == 2
    assert len(log.read_text().splitlines()) < 10, log.read_text()


@pytest.mark.messy_books("two files of one task are a person's to sort out")
def test_a_file_in_moving_whose_home_is_taken_does_not_spin(repo: Repo) -> None:
    script(repo, every(WRITE))
    drop(repo, "both", "# Both\n")
    repo.layout.moving.mkdir(exist_ok=True)
    moving = repo.layout.moving / "INCOMING+both.md"
    moving.write_text("# Both, half moved\n")
    os.utime(moving, (time.time() - 60,) * 2)
    assert empty(repo) == 6
    assert moving.exists() and repo.layout.task_file(State.INCOMING, "both").exists()


def test_a_paused_task_does_not_hold_up_the_others(repo: Repo) -> None:
    script(repo, {"tasks": {"first": {"implementer": [held(repo)]}, "default": {"implementer": [WRITE]}}})
    drop(repo, "first", "---\npriority: P0\n---\n# First\n")
    with repo.background("run"):
        started(repo)
        repo.octopoid("pause", "first")
        let_go(repo)
        eventually(lambda: state_of(repo, "first") is State.PROVISIONAL, 20, "its result was not collected")
        drop(repo, "second", "# Second\n")
        eventually(lambda: state_of(repo, "second") is State.DONE, 10, "second waits for a paused task")


def test_a_candidate_that_git_lost_takes_nobody_down(repo: Repo) -> None:
    """Invariant 11: one task's trouble stays its own."""
    script(repo, every(WRITE), gates=["human"])
    drop(repo, "lost", "# Lost\n")
    empty(repo)
    repo.octopoid("approve", "lost")
    git(repo, "worktree", "remove", "--force", repo.layout.home / "worktrees/lost")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    script(repo, every(WRITE), gates=[])
    drop(repo, "other", "# Other\n")
    empty(repo)
    assert state_of(repo, "other") is State.DONE
    assert state_of(repo, "lost") in (State.PROVISIONAL, State.BLOCKED, State.INCOMING)


def test_no_git_identity_is_said_and_not_a_crash(repo: Repo) -> None:
    work = "echo x > x.txt && git add x.txt && git -c user.name=A -c user.email=a@b commit -qm x"
    script(repo, every([{"run": work}]))
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    drop(repo, "anon", "# Anon\n")
    answer = repo.octopoid("run", "--until-empty", ok=None, timeout=30)
    assert answer.status == 6, answer.err
    assert "Traceback" not in answer.err


def test_a_lone_surrogate_in_a_result_is_not_the_end(repo: Repo) -> None:
    say = 'printf \'{"outcome": "done", "summary": "bad \\\\ud800 half"}\' > $OCTOPOID_RESULT_FILE'
    script(repo, every([*WRITE, {"run": say}]))
    drop(repo, "odd", "# Odd\n")
    assert empty(repo) == 0
    assert landed(repo) == ("odd",)


def test_an_agent_that_ends_its_own_runner_is_not_started_for_ever(repo: Repo) -> None:
    """Nobody of ours asked: the attempt is uncharged, but five in a row need a person (DESIGN §5)."""
    suicide = 'kill -TERM $(sed \'s/.*"runner_pid": *\\([0-9]*\\).*/\\1/\' "$OCTOPOID_ATTEMPT_DIR/pid"); sleep 5'
    script(repo, every([{"run": suicide}]), grace="1s")
    drop(repo, "kill", "# Kill\n")
    assert empty(repo, 40) == 6
    assert shown(repo, "kill")["state"] == "blocked"
    assert len(outcomes(repo, "kill")) < 10


def test_a_stop_that_came_before_the_runner_could_hear_it(repo: Repo) -> None:
    """`mv` out of claimed right after the claim: the stop file is there, the signal found no pid yet."""
    script(repo, every(held(repo)))
    drop(repo, "early", "# Early\n")
    with repo.background("run"):
        started(repo)
        (repo.layout.entry("early", 1) / "stop").write_text("its task is in blocked")
        repo.layout.task_file(State.CLAIMED, "early").rename(repo.layout.task_file(State.BLOCKED, "early"))
        eventually(lambda: not marked(repo.layout.entries("early")), 15, "its agent works on")


def test_sigterm_starts_nothing_more(repo: Repo) -> None:
    script(repo, every(held(repo)))
    with repo.background("run") as daemon:
        eventually(lambda: repo.octopoid("status", "--json").json()["scheduler"]["last_tick"], 10)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        drop(repo, "late", "# Late\n")
        os.kill(daemon.process.pid, signal.SIGTERM)
        os.kill(daemon.process.pid, signal.SIGCONT)
        eventually(lambda: daemon.process.poll() is not None, 10)
        assert state_of(repo, "late") is State.INCOMING
        assert not repo.layout.entries("late").exists()


def test_an_interrupted_until_empty_does_not_say_that_all_is_done(repo: Repo) -> None:
    script(repo, every(held(repo)))
    drop(repo, "one", "# One\n")
    with repo.background("run", "--until-empty") as loop:
        started(repo)
        os.kill(loop.process.pid, signal.SIGINT)
        eventually(lambda: loop.process.poll() is not None, 10)
        assert loop.process.returncode != 0


def test_cron_tells_a_person_once(repo: Repo) -> None:
    told = repo.root.parent / "told"
    notify = {"command": ["sh", "-c", f"echo $OCTOPOID_EVENT_KIND >> {told}"]}
    script(repo, every(WRITE), gates=["human"], notify=notify)
    drop(repo, "mine", "# Mine\n")
    empty(repo)
    eventually(told.exists, 10)
    for _ in range(2):
        repo.octopoid("run", "--once")
    eventually(lambda: not marked(repo.root), 10, "the user's program still runs")
    assert told.read_text() == "human\n"


def test_until_empty_waits_for_an_answer_to_settle(repo: Repo) -> None:
    script(repo, every([{"question": ["Which colour?"]}], WRITE))
    drop(repo, "ask", "# Ask\n")
    empty(repo)
    path = repo.layout.task_file(State.BLOCKED, "ask")
    path.write_text(path.read_text().replace("\n\nAnswer:", "\n\nAnswer: blue"))
    assert empty(repo) == 0
    assert landed(repo) == ("ask",)


def test_rework_goes_on_from_the_candidate_also_where_the_worktree_is_gone(repo: Repo) -> None:
    script(repo, every(WRITE, [{"write": {"path": "more.txt", "text": "more\n"}}]), gates=["human"])
    drop(repo, "wt", "# Wt\n")
    empty(repo)
    git(repo, "worktree", "remove", "--force", repo.layout.home / "worktrees/wt")
    repo.octopoid("reject", "wt", "-m", "more, please")
    empty(repo)
    files = git(repo, "ls-tree", "-r", "--name-only", shown(repo, "wt")["candidate"]).split()
    assert {"wt.txt", "more.txt"} <= set(files), "the first attempt's work was thrown away"


def test_work_in_flight_lands_on_the_base_it_was_made_for(repo: Repo) -> None:
    """LESSONS 28: the base is resolved once. `base:` of agents.yaml was edited while a person thought about it."""
    git(repo, "branch", "release")
    commit(repo, {"main-only.txt": "not for the release\n"}, "Main only")
    script(repo, every(WRITE), gates=["human"])
    drop(repo, "fly", "# Fly\n")
    empty(repo)
    script(repo, every(WRITE), gates=["human"], base="release")
    repo.octopoid("approve", "fly")
    empty(repo)
    assert "main-only.txt" not in git(repo, "ls-tree", "-r", "--name-only", "release").split()


def test_an_agent_that_left_the_policy_is_still_read_by_its_adapter(repo: Repo) -> None:
    """Status 127 of a command is a missing program: the machine's fault, whoever is in agents.yaml by now."""
    wait = f"touch {repo.root.parent}/started; while [ ! -e {repo.root.parent}/go ]; do sleep 0.05; done; exit 127"
    agent = {"role": "implementer", "adapter": "command", "command": ["sh", "-c", wait]}
    script(repo, {}, agents={"old": agent}, limits={"attempts": 1})
    drop(repo, "who", "# Who\n")
    with repo.background("run"):
        started(repo)
        script(repo, {}, agents={"new": {**agent, "command": ["sh", "-c", "exit 127"]}}, limits={"attempts": 1})
        let_go(repo)
        eventually(lambda: outcomes(repo, "who"), 20)
    assert outcomes(repo, "who")[0]["class"] == "environment"


def test_a_gate_that_was_added_while_a_landing_waited_is_asked(repo: Repo) -> None:
    write = [{"write": {"path": "README.md", "text": "agent\n"}}]
    script(repo, every(write))
    (repo.root / "README.md").write_text("my unsaved thoughts\n")
    drop(repo, "wait", "# Wait\n")
    assert empty(repo) == 6
    script(repo, every(write), gates=["checks", "human"])
    git(repo, "checkout", "README.md")
    empty(repo)
    assert state_of(repo, "wait") is State.PROVISIONAL
    assert landed(repo) == ()


def test_after_a_run_that_never_reached_the_agent_the_next_begins_at_the_candidate(repo: Repo) -> None:
    """A gate left its merge commit in the worktree; putting the candidate back failed (a full disk, a broken git)."""
    trip, shims, at = repo.root.parent / "trip", repo.root.parent / "shims", repo.root.parent / "at"
    shims.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (shims / "git").write_text(
        f'#!/bin/sh\nif [ -e {trip} ]; then case "$*" in *checkout*--force*) exit 128;; esac; fi\nexec {real} "$@"\n'
    )
    (shims / "git").chmod(0o755)
    env = {"PATH": f"{shims}:{repo.env['PATH']}"}
    second = [{"run": f"git rev-parse HEAD > {at}"}, {"append": {"path": "x.txt", "text": "2\n"}}]
    first = [{"write": {"path": "x.txt", "text": "1\n"}}]
    check = f"test $(wc -l < x.txt) = 2 || {{ touch {trip}; exit 1; }}"
    script(repo, every(first, second, second, second), checks=[{"name": "two", "run": check}])
    drop(repo, "x", "# X\n")
    repo.octopoid("run", "--until-empty", env=env, ok=(6,))
    trip.unlink()
    candidate = outcomes(repo, "x")[0]["candidate"]
    repo.octopoid("resume", "--agent", "implementer")
    repo.octopoid("run", "--until-empty", env=env, ok=None)
    assert at.read_text().strip() == candidate


def test_a_fresh_clone_with_a_committed_policy_works(repo: Repo) -> None:
    """What `.octopoid/.gitignore` hides is not there after `git clone`."""
    script(repo, every(WRITE), limits={"usd_per_day": 5})
    for name in ("queue", "attempts", "run", "worktrees"):
        subprocess.run(["rm", "-rf", str(repo.layout.home / name)], check=True)
    task = repo.octopoid("enqueue", "Do it").out.strip()
    assert empty(repo) == 0
    assert landed(repo) == (task,)


def test_a_conflict_merged_as_told_lands_in_rebase_mode(repo: Repo) -> None:
    """The feedback says: merge the base commit into your work, and commit."""
    start, go = repo.root.parent / "started", repo.root.parent / "go"
    first = [{"touch": str(start)}, {"wait_for": str(go)}, {"write": {"path": "README.md", "text": "ours\n"}}]
    merge = [{"run": "git merge -q -X ours main || true"}, {"append": {"path": "README.md", "text": "both\n"}}]
    script(repo, every([*first, {"commit": "Ours"}], [*merge, {"commit": "Both"}]), land={"mode": "rebase"})
    drop(repo, "clash", "# Clash\n")
    with repo.background("run"):
        eventually(start.exists, 15, "the agent did not start")
        commit(repo, {"README.md": "theirs\n"}, "Theirs")
        go.touch()
        eventually(
            lambda: state_of(repo, "clash") in (State.DONE, State.BLOCKED), 25, "neither landed nor asked a person"
        )
    assert state_of(repo, "clash") is State.DONE, shown(repo, "clash")["detail"]
    assert git(repo, "show", "main:README.md") == "ours\nboth"


def test_money_of_an_attempt_over_midnight_counts(repo: Repo) -> None:
    paid = [*WRITE, {"result": {"outcome": "done", "usage": {"usd": 3.0}}}]
    script(repo, every(paid), limits={"usd_per_day": 2}, gates=["human"])
    drop(repo, "a", "# A\n")
    empty(repo)
    then = time.time() - 86400
    os.utime(repo.layout.entries("a"), (then, then))  # as it is when the attempt began yesterday
    drop(repo, "b", "# B\n")
    empty(repo)
    assert state_of(repo, "b") is State.INCOMING, "the day's budget is spent"


def test_money_of_a_deleted_task_counts(repo: Repo) -> None:
    paid = [*WRITE, {"result": {"outcome": "done", "usage": {"usd": 3.0}}}]
    script(repo, every(paid), limits={"usd_per_day": 2}, gates=["human"])
    drop(repo, "a", "# A\n")
    empty(repo)
    repo.layout.task_file(State.PROVISIONAL, "a").unlink()
    empty(repo)
    drop(repo, "b", "# B\n")
    empty(repo)
    assert state_of(repo, "b") is State.INCOMING, "the day's budget is spent"


def test_a_full_disk_does_not_end_the_daemon(repo: Repo) -> None:
    """FAULTS 2: it says so and goes on when there is room again. RLIMIT_FSIZE 0 is a disk on which nothing fits."""
    script(repo, every(WRITE))
    null, devnull = subprocess.DEVNULL, dict(repo.env)
    daemon = subprocess.Popen([str(OCTOPOID), "run"], cwd=repo.root, env=devnull, stdin=null, stdout=null, stderr=null)
    try:
        eventually(lambda: repo.octopoid("status", "--json").json()["scheduler"]["last_tick"], 10)
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, hard))
        drop(repo, "full", "# Full\n")
        with pytest.raises(AssertionError):
            eventually(lambda: daemon.poll() is not None, 3)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
        eventually(lambda: state_of(repo, "full") is State.DONE, 45)
    finally:
        daemon.kill()
        daemon.wait()


def test_what_was_squashed_for_the_checks_is_there_when_a_person_says_no(repo: Repo) -> None:
    """The squashed commit is checked out by then: nothing of the agent's own commits may be lost to `git gc`."""
    work = [*WRITE, {"commit": "In the agent's own words"}]
    script(
        repo,
        every(work, [{"write": {"path": "more.txt", "text": "more\n"}}]),
        gates=["checks", "human"],
        land={"mode": "squash"},
    )
    drop(repo, "kept", "# Kept\n")
    assert empty(repo) == 6
    git(repo, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    assert [
        one for one in repo.octopoid("doctor", "--json").json()["findings"] if one["code"] == "candidate-loose"
    ] == []
    repo.octopoid("reject", "kept", "-m", "more of it")
    assert empty(repo) == 6
    repo.octopoid("approve", "kept")
    assert empty(repo) == 0
    assert git(repo, "for-each-ref", "refs/octopoid") == ""
    assert git(repo, "show", "main:kept.txt") == "work" and git(repo, "show", "main:more.txt") == "more"


def test_squash_and_reopen_with_a_lazy_agent_is_not_done(repo: Repo) -> None:
    first = [*WRITE, {"commit": "In the agent's own words"}]
    more: dict[str, Any] = {"gates": [], "checks": [], "land": {"mode": "squash"}, "limits": {"attempts": 1}}
    script(repo, every(first, [{"say": "nothing to do"}]), **more)
    drop(repo, "re", "# Re\n")
    empty(repo)
    repo.octopoid("reopen", "re", "-m", "do more")
    assert empty(repo) == 6
    assert "no changes" in shown(repo, "re")["detail"]


@pytest.mark.parametrize("left", [State.CANCELLED, State.ARCHIVED, State.DONE, State.BLOCKED])
def test_a_file_on_its_way_back_breaks_no_command(repo: Repo, left: State) -> None:
    """An undo, a retry or a reopen that was killed in the middle: the file has left one folder and is in none yet."""
    script(repo, every(WRITE))
    repo.octopoid("pause")
    repo.layout.moving.mkdir(exist_ok=True)
    moving = repo.layout.moving / f"{left.name}+under.md"
    moving.write_text("# Under way\n")
    os.utime(moving, (time.time() - 60,) * 2)
    for words in (
        "status",
        "status --json",
        "list",
        "show under",
        "why under",
        "inbox --json",
        "doctor",
        "run --dry-run",
    ):
        said = repo.octopoid(*words.split(), ok=None)
        assert "bug in octopoid" not in said.err, words
    counted = repo.octopoid("status", "--json").json()["counts"]
    assert sum(counted.values()) == (left in (State.DONE, State.BLOCKED))
    repo.octopoid("run", "--once")
    assert state_of(repo, "under") is left
