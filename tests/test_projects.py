"""Projects: tasks that share a branch, how far they are, and how they land as one."""

from __future__ import annotations

import pytest
from harness import Repo, commit, drop, git, init, landed, script, state_of
from test_cli_read import on_terminal

from octopoid import projects, taskfile
from octopoid.errors import Conflict, NotFound
from octopoid.states import State

ONE_FILE = {"append": {"path": "notes/${OCTOPOID_TASK_ID}.md", "text": "note ${OCTOPOID_ATTEMPT}\n"}}
WORKS = {"tasks": {"default": {"implementer": [[ONE_FILE, {"commit": "Work"}]]}}}
FOLDERS = {
    "a": State.INCOMING,
    "b": State.CLAIMED,
    "c": State.PROVISIONAL,
    "d": State.BLOCKED,
    "e": State.DONE,
    "f": State.ARCHIVED,
    "g": State.CANCELLED,
}


def member(repo: Repo, task: str, state: State = State.INCOMING, project: str = "web", more: str = "") -> None:
    drop(repo, task, f"---\nproject: {project}\n{more}---\n# Task {task}\n", state=state)


def branch(repo: Repo, name: str = "web", commits: int = 2) -> None:
    """The branch of a project, some commits ahead of main."""
    git(repo, "checkout", "-q", "-b", f"project/{name}")
    for number in range(commits):
        commit(repo, {f"{name}.txt": f"{number}\n"})
    git(repo, "checkout", "-q", "main")


def test_every_folder_counts(repo: Repo) -> None:
    init(repo)
    for task, state in FOLDERS.items():
        member(repo, task, state)
    member(repo, "other", State.DONE, "api")
    drop(repo, "alone", "# A project of its own\n")
    api, web = projects.listed(repo.layout)
    assert (api.name, web.name, web.branch, web.base) == ("api", "web", "project/web", "main")
    assert web.counts == {"incoming": 1, "claimed": 1, "provisional": 1, "blocked": 1, "done": 2, "cancelled": 1}
    assert (web.done, web.total, api.done, api.total) == (2, 6, 1, 1)
    assert [one.id for one in web.tasks] == ["e", "f", "a", "b", "c", "d", "g"]
    assert (web.sha, web.ahead, web.landing) == (None, None, None)


def test_the_branch_and_how_far_it_is(repo: Repo) -> None:
    init(repo)
    member(repo, "a")
    branch(repo)
    (web,) = projects.listed(repo.layout)
    assert (web.sha, web.ahead) == (git(repo, "rev-parse", "project/web"), 2)
    git(repo, "merge", "-q", "project/web")
    commit(repo, {"x": "x"})
    assert projects.listed(repo.layout)[0].ahead == 0
    assert projects.listed(repo.layout, "nowhere")[0].ahead is None


def test_a_file_that_cannot_be_read_is_told_and_hides_nothing(repo: Repo) -> None:
    init(repo)
    member(repo, "a")
    member(repo, "b", more="prioritee: P1\n")
    assert [one.id for one in projects.find(repo.layout, "web").tasks] == ["a"]
    answer = repo.octopoid("project", "list")
    assert answer.out.startswith("web  [----------] 0/1  1 incoming") and "octopoid lint" in answer.err


def test_an_unknown_project(repo: Repo) -> None:
    init(repo)
    with pytest.raises(NotFound) as error:
        projects.find(repo.layout, "web")
    assert "--project web" in error.value.hint
    member(repo, "a")
    wrong = repo.octopoid("project", "show", "wbe", ok=(3,))
    assert "did you mean `web`?" in wrong.err


def test_list_in_a_pipe(repo: Repo) -> None:
    init(repo)
    empty = repo.octopoid("project", "list")
    assert empty.out == "" and "--project" in empty.err
    for number in range(10):
        member(repo, f"t{number}", State.DONE if number < 6 else State.INCOMING)
    member(repo, "gone", State.CANCELLED)
    branch(repo)
    line = "web  [######----] 6/10  4 incoming, 1 cancelled  project/web (2 commits ahead of main)  not asked for\n"
    assert repo.octopoid("project", "list").out == line
    assert repo.octopoid("project").out == line


def test_list_on_a_terminal(repo: Repo) -> None:
    init(repo)
    for number in range(4):
        member(repo, f"t{number}", State.DONE if number < 2 else State.INCOMING)
    drawn = on_terminal(repo, "project", "list", env={"NO_COLOR": "1"}, columns=120)
    assert "[█████░░░░░] 2/4" in drawn and "progress" in drawn
    ascii_only = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    assert "[#####-----] 2/4" in on_terminal(repo, "project", "list", env=ascii_only, columns=120)


def test_names_complete(repo: Repo) -> None:
    init(repo)
    member(repo, "a")
    env = {"_OCTOPOID_COMPLETE": "complete_bash", "COMP_WORDS": "octopoid project show w", "COMP_CWORD": "3"}
    assert repo.octopoid(env=env, ok=None).out.split() == ["web"]


def test_two_copies_are_one_task(repo: Repo) -> None:
    """An editor's save behind a move: the file furthest along counts (DESIGN §3)."""
    init(repo)
    member(repo, "a", State.DONE)
    member(repo, "a")
    (web,) = projects.listed(repo.layout)
    assert [(one.id, one.state) for one in web.tasks] == [("a", State.DONE)]


def test_json(repo: Repo) -> None:
    init(repo)
    member(repo, "a", State.DONE)
    member(repo, "b")
    branch(repo, commits=1)
    listed = repo.octopoid("project", "list", "--json").json()
    assert (listed["schema_version"], listed["kind"]) == (1, "projects")
    (web,) = listed["projects"]
    assert {key: web[key] for key in ("name", "branch", "base", "ahead", "done", "total", "tasks", "landing")} == {
        "name": "web",
        "branch": "project/web",
        "base": "main",
        "ahead": 1,
        "done": 1,
        "total": 2,
        "tasks": ["a", "b"],
        "landing": None,
    }
    shown = repo.octopoid("project", "show", "web", "--json").json()
    assert (shown["kind"], shown["project"]) == ("project", web)
    assert [(one["id"], one["state"]) for one in shown["tasks"]] == [("a", "done"), ("b", "incoming")]


def test_show_says_where_each_task_is_and_why(repo: Repo) -> None:
    init(repo)
    member(repo, "a")
    member(repo, "b", more="depends_on: [a]\n")
    member(repo, "c", State.DONE)
    answer = repo.octopoid("project", "show", "web")
    rows = [line.split() for line in answer.out.splitlines()]
    assert [row[:2] for row in rows[:3]] == [["c", "done"], ["a", "incoming"], ["b", "incoming"]]
    assert rows[1][-1] == "ready" and "waiting on a" in answer.out
    assert answer.out.splitlines()[3:] == [
        "web  [###-------] 1/3  2 incoming",
        "branch: project/web (not made yet)",
        "landing: not asked for",
    ]
    assert answer.err.splitlines()[-1] == "next: octopoid why a"


def test_land_makes_one_task_after_what_is_open(repo: Repo) -> None:
    init(repo)
    for task, state in FOLDERS.items():
        member(repo, task, state)
    branch(repo)
    answer = repo.octopoid("project", "land", "web")
    assert answer.out == "land-project-web\n" and "git branch -d project/web" in answer.err
    path = repo.layout.task_file(State.INCOMING, "land-project-web")
    task = taskfile.parse(path.read_bytes(), path)
    assert (task.title, task.flow, task.project) == ("Land project web", "project", "web")
    assert task.depends_on == ("a", "b", "c", "d")
    assert "`e`: Task e" in task.body and "`g`" not in task.body
    (web,) = projects.listed(repo.layout)
    assert web.total == 6 and web.landing and web.landing.id == "land-project-web", "the landing is no task of it"
    again = repo.octopoid("project", "land", "web", ok=(5,))
    assert "land-project-web lands it already and is in incoming" in again.err
    shown = repo.octopoid("project", "show", "web")
    assert "landing: land-project-web is in incoming" in shown.out
    assert shown.err.endswith("next: octopoid why land-project-web\n")


def test_land_refuses_what_cannot_land(repo: Repo) -> None:
    init(repo)
    member(repo, "a", State.DONE)
    assert "no branch project/web" in repo.octopoid("project", "land", "web", ok=(5,)).err
    git(repo, "branch", "project/web")
    nothing = repo.octopoid("project", "land", "web", ok=(5,))
    assert "main has everything of project/web already" in nothing.err
    member(repo, "x", State.CANCELLED, "gone")
    git(repo, "branch", "project/gone")
    assert "project gone has no tasks" in repo.octopoid("project", "land", "gone", ok=(5,)).err
    assert repo.octopoid("project", "land", "nix", ok=(3,)).out == ""
    branch(repo, "api")
    member(repo, "y", State.DONE, "api")
    drop(repo, "land-project-api", "---\nprioritee: P1\n---\n# Mine\n", state=State.BLOCKED)
    assert "land-project-api in blocked" in repo.octopoid("project", "land", "api", ok=(5,)).err


def test_a_project_may_land_again(repo: Repo) -> None:
    init(repo)
    member(repo, "a", State.DONE)
    branch(repo)
    member(repo, "land-project-web", State.ARCHIVED, more="flow: project\n")
    found = repo.octopoid("project", "land", "web", "--json").json()
    assert (found["kind"], found["task"]["id"], found["task"]["flow"]) == (
        "project-land",
        "land-project-web-2",
        "project",
    )
    assert "landing: land-project-web-2 is in incoming" in repo.octopoid("project", "show", "web").out
    cancelled = repo.layout.task_file(State.CANCELLED, "land-project-web-2")
    repo.layout.task_file(State.INCOMING, "land-project-web-2").rename(cancelled)
    with pytest.raises(Conflict):
        projects.landing_of(repo.layout, projects.find(repo.layout, "web")._replace(ahead=0))
    assert projects.landing_of(repo.layout, projects.find(repo.layout, "web"))[0] == "land-project-web-3"


@pytest.mark.parametrize("mode", ["merge", "squash"])
def test_a_project_from_its_first_task_to_main(repo: Repo, mode: str) -> None:
    """Through the command line and a real scheduler: two tasks on the branch, then one landing on main."""
    script(repo, WORKS, land={"mode": mode})
    ids = [repo.octopoid("enqueue", title, "--project", "web").out.strip() for title in ("One", "Two")]
    before = git(repo, "rev-parse", "main")
    repo.octopoid("run", "--until-empty")
    assert git(repo, "rev-parse", "main") == before, "nothing of it is on main yet"
    assert sorted(landed(repo, "project/web")) == sorted(ids)
    listed = repo.octopoid("project", "list").out
    assert "[##########] 2/2" in listed and "complete: octopoid project land web" in listed
    repo.octopoid("project", "land", "web")
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "land-project-web") is State.DONE
    assert git(repo, "ls-tree", "--name-only", "main", "notes/").split() == sorted(f"notes/{one}.md" for one in ids)
    assert "land-project-web" in landed(repo)
    shown = repo.octopoid("project", "show", "web")
    assert "nothing ahead of main" in shown.out and "landing: landed by land-project-web" in shown.out
    assert shown.err.endswith("next: git branch -d project/web when you need it no longer\n")
    assert "has everything" in repo.octopoid("project", "land", "web", ok=(5,)).err
    git(repo, "branch", "-D", "project/web")
    assert "branch: project/web (deleted)" in repo.octopoid("project", "show", "web").out
