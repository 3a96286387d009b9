"""The sandbox: an agent that tries everything to get out, real work that goes on inside, and what is said about it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentcases import CASES, User, prepare, promised
from agentdrivers import DRIVERS
from harness import Answer, Repo, commit, drop, eventually, git, landed, state_of, write_config

from octopoid import configsandbox, sandbox, sandboxing
from octopoid.errors import Invalid
from octopoid.settings import Sandbox
from octopoid.states import State

NONE = sandboxing.program("on", os.environ.get("PATH", os.defpath))[1]
needs_bwrap = pytest.mark.skipif(bool(NONE), reason=f"bubblewrap: {NONE}")

PRELUDE = """\
import ctypes, json, os, shutil, signal, socket, subprocess, sys, time
root, host, task = sys.argv[1:4]
found = {}
def attempt(name):
    def run(function):
        try:
            found[name] = repr(function())
        except BaseException as error:
            found[name] = "!" + type(error).__name__ + " " + str(error)
    return run
def write(path, text="canary"):
    with open(path, "w") as file:
        file.write(text)
def sh(command):
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout, done.stderr
"""
EPILOGUE = "\nwrite('found.json', json.dumps(found, indent=1))\n"


def policy(repo: Repo, command: list[str], **more: Any) -> None:
    """One agent that is this command, shut in unless `more` says otherwise."""
    agent = {"role": "implementer", "adapter": "command", "command": command, **more.pop("agent", {})}
    usual = {
        "version": 1,
        "base": "main",
        "checks": [{"name": "t", "run": "true"}],
        "gates": ["checks"],
        "limits": {"attempts": 1},
    }
    text = {**usual, "sandbox": "required", "agents": {"implementer": agent}, **more}
    write_config(repo, json.dumps(text, indent=1))


def ask(repo: Repo, body: str, task: str = "one", env: Mapping[str, str] | None = None, **more: Any) -> Answer:
    """Give an agent a task that runs `body`, and let it."""
    program = repo.root.parent / f"home/attack-{task}.py"  # a private /tmp hides what lies beside it
    program.write_text(PRELUDE + body + EPILOGUE)
    policy(repo, [sys.executable, str(program), str(repo.root), str(repo.root.parent), task], **more)
    drop(repo, task, f"# {task}\n")
    return repo.octopoid("run", "--until-empty", ok=(0, 6), env=env)


def attack(repo: Repo, body: str, task: str = "one", **more: Any) -> dict[str, str]:
    """What an agent could do that runs `body`; its work lands. "!" begins what it could not do."""
    env = more.pop("env", None)
    answer = ask(repo, body, task, env, **more)
    logs = "".join(path.read_text() for path in sorted(repo.layout.entries(task).glob("*/output.log")))
    assert landed(repo)[-1:] == (task,), answer.out + answer.err + logs
    found: dict[str, str] = json.loads(git(repo, "show", "main:found.json"))
    return found


def listing(repo: Repo) -> dict[str, bytes]:
    """Everything of git's that an agent must not change, but objects, and what a landing moves."""
    return {
        str(path): path.read_bytes()
        for path in sorted((repo.root / ".git").rglob("*"))
        if path.is_file()
        and not {"objects", "worktrees", "logs"} & set(path.relative_to(repo.root).parts)
        and path.name not in ("index", "main", "ORIG_HEAD", "one", "two")
    }


WRITES = """
home = os.path.expanduser("~")
outside = {
    "checkout": root + "/README.md", "config": root + "/.git/config", "hook": root + "/.git/hooks/pre-commit",
    "packed-refs": root + "/.git/packed-refs", "head": root + "/.git/HEAD", "policy": root + "/.octopoid/agents.yaml",
    "queue": root + "/.octopoid/queue/incoming/mine.md", "run": root + "/.octopoid/run/wake",
    "host": host + "/canary", "proc": "/proc/self/root" + host + "/canary", "init": "/proc/1/root" + host + "/canary",
    "setup": root + "/.octopoid/run/setup/x", "program": sys.argv[0],
}
os.symlink(root + "/README.md", "link")
outside["symlink"] = "link"
for name, path in outside.items():
    attempt(name)(lambda path=path: write(path))
os.unlink("link")
attempt("hardlink")(lambda: os.link(root + "/README.md", "hard"))
for name in ("found",):
    attempt("home")(lambda: write(home + "/.profile-of-mine"))
    attempt("profile")(lambda: write(home + "/.bashrc"))
    attempt("tmp")(lambda: write("/tmp/" + host.replace("/", "_")))
for name in ("exit.json", "outcome.json", "facts.json", "moved-provisional", "attempt.json", "lock", "pid"):
    attempt("forge " + name)(lambda: write(os.environ["OCTOPOID_ATTEMPT_DIR"] + "/" + name, "{}"))
gitdir = subprocess.check_output(["git", "rev-parse", "--absolute-git-dir"], text=True).strip()
attempt("link gone")(lambda: os.unlink(".git"))
attempt("link renamed")(lambda: os.rename(".git", ".git-mine"))
attempt("link written")(lambda: write(".git"))
attempt("commondir")(lambda: write(gitdir + "/commondir2"))
trick = "touch " + host + "/fsmonitor"
attempt("worktree config")(lambda: write(gitdir + "/config.worktree", "[core]\\n\\tfsmonitor = " + trick + "\\n"))
attempt("objects")(lambda: [os.unlink(root + "/.git/objects/" + one[:2] + "/" + one[2:]) for one in
    subprocess.check_output(["git", "rev-list", "HEAD"], text=True).split()])
attempt("branch")(lambda: sh("git branch -f other; git update-ref refs/heads/main $(git commit-tree -m x HEAD^{tree})"))
attempt("git config")(lambda: sh("git config core.fsmonitor '" + trick + "'"))
attempt("userns")(lambda: sh("unshare -Urm sh -c 'mount -o remount,rw,bind " + root + "; umount -l " + root
    + "/.git/refs; mount --bind / /tmp; touch " + root + "/userns /tmp" + host + "/canary' 2>&1"))
attempt("nsenter")(lambda: sh("nsenter -t 1 -m touch " + host + "/canary"))
attempt("plant")(lambda: (os.unlink(gitdir + "/commondir"), os.symlink(home + "/.bashrc", gitdir + "/commondir"),
    shutil.rmtree(root + "/.git/objects/info"), os.symlink(home, root + "/.git/objects/info")))
"""

READS = """
home = os.path.expanduser("~")
for name in (".ssh/id", ".netrc", ".config/gh/hosts.yml", "secret/key", "mine"):
    attempt("read " + name)(lambda: open(home + "/" + name).read())
attempt("linked")(lambda: open(home + "/.aws/credentials").read())
attempt("link's end")(lambda: open(host + "/elsewhere/credentials").read())
attempt("readable")(lambda: open(home + "/notes").read())
attempt("other worktree")(lambda: open(root + "/.octopoid/worktrees/other/secret").read())
attempt("other entry")(lambda: open(root + "/.octopoid/attempts/other/001/prompt.md").read())
attempt("entries")(lambda: os.listdir(root + "/.octopoid/attempts"))
attempt("tmp")(lambda: open(open(home + "/tmp").read()).read())
def talk(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
attempt("agent socket")(lambda: talk(home + "/.ssh/agent.sock"))
attempt("runtime socket")(lambda: talk(os.environ["XDG_RUNTIME_DIR"] + "/bus"))
attempt("ssh agent")(lambda: os.environ["SSH_AUTH_SOCK"])
attempt("port")(lambda: socket.create_connection(("127.0.0.1", int(open(home + "/port").read())), 5).close())
def own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
attempt("own port")(own)
attempt("kill")(lambda: os.kill(int(open(home + "/pid").read()), signal.SIGKILL))
attempt("processes")(lambda: len([one for one in os.listdir("/proc") if one.isdigit()]))
libc = ctypes.CDLL(None, use_errno=True)
attempt("ptrace")(lambda: libc.ptrace(16, int(open(home + "/pid").read()), 0, 0))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
"""


@needs_bwrap
def test_what_an_agent_writes_stays_where_it_belongs(repo: Repo) -> None:
    home = repo.root.parent / "home"
    (home / ".bashrc").write_text("mine\n")
    git(repo, "config", "extensions.worktreeConfig", "true")
    git(repo, "branch", "untouched")
    policy(repo, ["true"])
    before = listing(repo)
    found = attack(repo, WRITES)
    out = {"checkout", "config", "hook", "packed-refs", "head", "policy", "queue", "run"}
    out |= {
        "setup",
        "program",
        "symlink",
        "hardlink",
        "link gone",
        "link renamed",
        "link written",
        "profile",
        "objects",
    }
    assert {name: said for name, said in found.items() if name in out and not said.startswith("!")} == {}
    assert listing(repo) == before and not list(repo.root.parent.glob("canary*"))
    assert not (repo.root.parent / "fsmonitor").exists() and not (repo.root / "userns").exists()
    assert (repo.root / "README.md").read_text() == "# A project\n" and (home / ".bashrc").read_text() == "mine\n"
    assert (
        not Path("/tmp", str(repo.root.parent).replace("/", "_")).exists() and not (home / ".profile-of-mine").exists()
    )
    assert git(repo, "fsck", "--no-dangling") == "" and not (home / "alternates").exists()
    assert git(repo, "branch", "--format=%(refname:short)") == "main\nuntouched"
    entry = repo.layout.entry("one", 1)
    assert json.loads((entry / "outcome.json").read_bytes())["verb"] == "submit"
    assert json.loads((entry / "exit.json").read_bytes())["steps"] and not (entry / "sandbox").exists()


@needs_bwrap
def test_what_an_agent_has_no_business_with_is_not_there(repo: Repo, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in (".ssh/id", ".netrc", ".config/gh/hosts.yml", "secret/key", "mine", "notes", ".cache/x"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("canary\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/credentials").write_text("canary\n")
    (home / ".aws").symlink_to(tmp_path / "elsewhere")
    policy(repo, ["true"])
    for place in ("worktrees/other/secret", "attempts/other/001/prompt.md"):
        path = repo.root / ".octopoid" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("canary\n")
    fd, foreign = tempfile.mkstemp(dir="/tmp")
    os.close(fd)
    (home / "tmp").write_text(foreign)
    with _listening(home / ".ssh/agent.sock"), socket.create_server(("127.0.0.1", 0)) as server:
        (home / "port").write_text(str(server.getsockname()[1]))
        sleeper = subprocess.Popen(["sleep", "100"])
        (home / "pid").write_text(str(sleeper.pid))
        box = {"mode": "required", "network": "off", "hide": ["~/secret", "~/mine"]}
        found = attack(repo, READS, sandbox=box, env={"SSH_AUTH_SOCK": str(home / ".ssh/agent.sock")})
        assert sleeper.poll() is None
        sleeper.kill()
        sleeper.wait()
    Path(foreign).unlink()
    seen = {name for name, said in found.items() if not said.startswith("!")}
    assert seen == {"readable", "entries", "own port", "processes", "ptrace"}, found
    assert found["entries"] == "['one']" and found["ptrace"] == "-1"
    assert int(found["processes"]) < 8


@contextmanager
def _listening(path: Path) -> Iterator[None]:
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path has 108 bytes at most
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
        server.listen()
        yield


@needs_bwrap
def test_the_users_hooks_that_an_agent_wrote_are_shut_in_too(repo: Repo) -> None:
    """With husky the hooks are files of the repository: what commits for the agent runs what it wrote."""
    git(repo, "config", "core.hooksPath", ".husky")
    commit(repo, {".husky/pre-commit": "#!/bin/sh\nexit 0\n"})
    hook = '#!/bin/sh\npwd > "{0}/canary-$$"; exit 0\n'
    found = attack(
        repo,
        f"for name in ('pre-commit', 'post-index-change', 'post-checkout', 'reference-transaction'):\n"
        f"    write('.husky/' + name, {hook!r}.format(host)); os.chmod('.husky/' + name, 0o755)\nfound['x'] = '1'",
    )
    assert found == {"x": "1"}
    ran = {path.read_text().strip() for path in repo.root.parent.glob("canary-*")}
    assert ran == {str(repo.root)}, "what has landed is the user's, and runs where it lands"


@needs_bwrap
def test_real_work_goes_on_inside(repo: Repo) -> None:
    """Two attempts in one worktree, a rebase onto what landed meanwhile, checks, a worktree that is used again."""
    other = commit(repo, {"other.txt": "other\n"})
    git(repo, "update-ref", "refs/heads/main", "HEAD~1")
    git(repo, "reset", "-q", "--hard")
    body = f"""
if not os.path.exists("a.txt"):
    write("a.txt"); sh("git checkout -q -b mine && git add a.txt && git commit -q -m A && git tag v && git stash list")
    write("b.txt"); write(os.environ["OCTOPOID_RESULT_FILE"], json.dumps({{"outcome": "question", "questions": ["?"]}}))
    sys.exit()
found["log"] = repr(sh("git log --format=%s; git status --porcelain"))
found["merge"] = repr(sh("git merge -q -m Merge {other}; git branch -f main; git log --oneline main | wc -l"))
found["home"] = repr(sh("echo x > ~/x && cat ~/x"))
"""
    ask(repo, body)
    repo.octopoid("answer", "one", "-m", "Yes.")
    repo.octopoid("run", "--until-empty")
    found = json.loads(git(repo, "show", "main:found.json"))
    assert found["log"] == "(0, 'A\\nFirst commit\\n?? b.txt\\n', '')" and found["home"].startswith("(0, 'x")
    files = git(repo, "ls-tree", "--name-only", "main").split()
    assert files == ["README.md", "a.txt", "b.txt", "found.json", "other.txt"]
    assert git(repo, "tag") == "" and git(repo, "branch", "--list", "mine") == ""
    assert git(repo, "log", "-1", "--format=%an", "main") == "Ada Tester"
    again = attack(repo, "found['log'] = repr(sh('git log --format=%s -1; git branch; git stash list'))", task="two")
    assert "one" in again["log"] and "mine" not in again["log"]
    assert "worktree" in (repo.layout.entry("two", 1) / "output.log").read_text()
    assert git(repo, "fsck", "--no-dangling") == ""


@needs_bwrap
def test_of_a_role_that_writes_a_document_nothing_else_lands(repo: Repo) -> None:
    policy(repo, ["true"])
    repo.layout.flows.mkdir(exist_ok=True)
    stage = "{name: plan, role: planner, commit: docs/plan.md}"
    (repo.layout.flows / "planned.yaml").write_text(f"stages: [{stage}]\ngates: [checks]\n")
    body = """
write("x.txt"); sh("git add x.txt; git commit -q -m Mine"); write("y.txt")
write(os.environ["OCTOPOID_ARTIFACTS"] + "/plan.md", "# The plan\\n")
"""
    program = repo.root.parent / "home/plan.py"
    program.write_text(PRELUDE + body)
    policy(repo, [sys.executable, str(program), "", "", ""], agent={"role": "planner"})
    drop(repo, "one", "---\nflow: planned\n---\n# One\n")
    answer = repo.octopoid("run", "--until-empty", ok=(0, 6))
    assert landed(repo) == ("one",), answer.out + answer.err
    files = git(repo, "ls-tree", "-r", "--name-only", "main").split()
    assert files == ["README.md", "docs/plan.md"] and "Mine" not in git(repo, "log", "--format=%s", "main")


@needs_bwrap
def test_commits_outlive_a_killed_supervisor_and_nothing_else_does(repo: Repo) -> None:
    mark = repo.root.parent / "home/began"
    body = """
if os.environ["OCTOPOID_ATTEMPT"] == "1":
    write("a.txt"); sh("git add a.txt && git commit -q -m A")
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000 & wait"], start_new_session=True)
    write(os.path.expanduser("~") + "/cache/began"); time.sleep(1000)
found["log"] = repr(sh("git log --format=%s"))
"""
    cache = mark.parent / "cache"
    cache.mkdir()
    program = repo.root.parent / "home/slow.py"
    program.write_text(PRELUDE + body + EPILOGUE)
    box = {"mode": "required", "write": ["~/cache"]}
    policy(repo, [sys.executable, str(program), str(repo.root), str(repo.root.parent), "one"], sandbox=box)
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--once")
    eventually((cache / "began").exists)
    shown = repo.octopoid("status").out
    assert "shut in (bwrap)" in shown, shown
    record = json.loads((repo.layout.entry("one", 1) / "pid").read_bytes())
    os.kill(record["runner_pid"], signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{record['agent_pid']}").exists())
    repo.octopoid("run", "--until-empty")
    assert json.loads(git(repo, "show", "main:found.json"))["log"].startswith("(0, 'A\\nFirst commit")
    assert git(repo, "ls-tree", "--name-only", "main").split() == ["README.md", "a.txt", "found.json"]


@needs_bwrap
def test_who_is_stopped_inside_hears_it(repo: Repo) -> None:
    """bubblewrap itself would die of SIGTERM at once, and take the agent along before that could clean up."""
    command = ["sh", "-c", 'trap "echo cleaned > cleaned.txt; exit 0" TERM; echo up; while :; do sleep 0.05; done']
    policy(repo, command, grace="5s")
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--once")
    log = repo.layout.entry("one", 1) / "output.log"
    eventually(lambda: b"up" in log.read_bytes())
    repo.octopoid("stop", "one")
    eventually((log.parent / "exit.json").exists)
    assert (repo.layout.home / "worktrees/one/cleaned.txt").read_text() == "cleaned\n"


LIMITS = """
def big():
    with open("big", "wb") as file:
        for _ in range(40): file.write(bytes(100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
attempt("file")(big)
os.path.exists("big") and os.unlink("big")
attempt("memory")(lambda: len(bytearray(900 << 20)))
attempt("files")(lambda: [open("/dev/null") for _ in range(100)] and None)
children = []
def fork():
    for _ in range(200):
        pid = os.fork()
        if pid == 0: time.sleep(30); os._exit(0)
        children.append(pid)
attempt("processes")(fork)
for pid in children: os.kill(pid, 9)
for pid in children: os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("mode", [pytest.param("required", marks=needs_bwrap), "off"])
def test_limits_hold_with_a_sandbox_and_without(repo: Repo, mode: str) -> None:
    # Without a user namespace of its own all processes of the user count, and of root none do at all.
    processes = 60 if mode == "required" and os.getuid() else 0
    box = {"mode": mode, "memory": "400M", "file_size": "1M", "files": 64, "processes": processes}
    found = attack(repo, LIMITS, sandbox=box)
    wanted = ["file", "memory", "files", *(["processes"] if processes else [])]
    assert [name for name in wanted if not found[name].startswith("!")] == [], found


def broken_bwrap(repo: Repo) -> dict[str, str]:
    """PATH on which bubblewrap does not work, as in many a container."""
    folder = repo.root.parent / "bin"
    folder.mkdir()
    (folder / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (folder / "bwrap").chmod(0o755)
    return {"PATH": f"{folder}:{repo.env['PATH']}"}


def test_without_a_sandbox_what_requires_one_waits_and_what_wants_one_runs(repo: Repo) -> None:
    env = broken_bwrap(repo)
    policy(repo, ["sh", "-c", "echo x > x.txt"])
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty", env=env, ok=(6,))
    status = repo.octopoid("status").out
    assert "this needs a sandbox, and there is none" in status and "No permissions to create new namespace" in status
    assert landed(repo) == () and state_of(repo, "one") is State.INCOMING
    assert (
        "agent" not in (repo.layout.entry("one", 1) / "pid").read_text()
        or not (repo.layout.home / "worktrees/one").exists()
    )
    policy(repo, ["sh", "-c", "echo up; while [ ! -e go ]; do sleep 0.05; done; echo x > x.txt"], sandbox="on")
    repo.octopoid("resume", "--breaker", "agent:implementer")
    with repo.background("run", "--until-empty", env=env):
        shown = eventually(lambda: [one for one in (repo.octopoid("status").out,) if "not shut in" in one])
        assert "No permissions to create new namespace" in shown[0]
        running = repo.octopoid("status", "--json").json()["running"][0]
        assert running["sandbox"] is None and "No permissions" in running["exposed"]
        (repo.layout.home / "worktrees/one/go").touch()
        eventually(lambda: landed(repo) == ("one",))


# --- logins of git ---


class _Wants(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.parametrize("mode", [pytest.param("required", marks=needs_bwrap), "off"])
def test_an_agent_has_the_users_logins_of_git_only_where_it_is_named(repo: Repo, mode: str) -> None:
    place = repo.root.parent
    server = HTTPServer(("127.0.0.1", 0), _Wants)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    (place / "asked").mkdir()
    helper = place / "home/helper.sh"
    helper.write_text(f'#!/bin/sh\necho asked >> "{place}/asked/$1"\nprintf "username=u\\npassword=p\\n"\n')
    helper.chmod(0o755)
    config = f'[credential]\n\thelper = {helper}\n[credential "{url}"]\n\thelper = {helper}\n'
    (place / "home/.gitconfig").write_text(config)
    env = {"GIT_CONFIG_GLOBAL": str(place / "home/.gitconfig"), "GIT_ASKPASS": str(helper), "SSH_ASKPASS": str(helper)}
    git(repo, "remote", "add", "origin", f"{url}/x.git")
    body = "found['push'] = repr(sh('git push origin HEAD:main'))\nfound['ssh'] = repr(sh('echo $GIT_SSH_COMMAND'))"
    box = {"mode": mode, "write": [str(place / "asked")]}
    found = attack(repo, body, sandbox=box, env=env, agent={"env": ["GIT_ASKPASS"]})
    assert "PubkeyAuthentication=no" in found["ssh"] and "terminal prompts disabled" in found["push"], found
    assert not (place / "asked/get").exists()
    found = attack(repo, body, "two", sandbox=box, env=env, agent={"git_credentials": True})
    server.shutdown()
    server.server_close()
    assert "PubkeyAuthentication" not in found["ssh"] and (place / "asked/get").exists(), found


# --- real agent programs ---


class Inside(User):
    def policy(self, agent: Mapping[str, Any] | None = None, **top: Any) -> None:
        User.policy(self, agent, sandbox="required", **top)


@needs_bwrap
@pytest.mark.parametrize("name", ["claude", "codex"])
def test_a_real_program_works_inside_and_goes_on_in_its_session(name: str, tmp_path: Path) -> None:
    """It asks; the answer is told in the same session, for which what it keeps below HOME has to be there again."""
    driver = DRIVERS[name]
    known = Path(pwd.getpwuid(os.getuid()).pw_dir, ".cache/octopoid-agents")
    if not any(known.glob(f"{driver.program}-*")):
        pytest.skip(f"{name} is not in {known}")
    with driver.server({}) as server:
        user = Inside(*prepare(driver, tmp_path, server))
        user.policy()
        assert CASES["question"](user) == promised(driver, "question")
        assert json.loads((user.entry("spell") / "sandbox.json").read_bytes())["program"].endswith("bwrap")


# --- what is written in agents.yaml ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sandbox: bwarp", "4:10: `sandbox` must be off, on, required, bwrap or sandbox-exec|did you mean `bwrap`?"),
        ("sandbox: {mode: on, netwrok: off}", "4:21: unknown key `netwrok` in sandbox|did you mean `network`?"),
        ("sandbox: {write: [cache]}", "4:19: `write` must be paths from `/` or `~/`|"),
        ("sandbox: {write: [/]}", "4:19: `/` is everything there is|"),
        ("sandbox: {memory: lots}", "4:19: `memory` must be a number of bytes|like 512M"),
        ("sandbox: {network: maybe}", "4:20: `network` must be on or off|"),
        ("sandbox: {processes: -1}", "4:22: `processes` must be a whole number|"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(repo: Repo, text: str, problem: str) -> None:
    agents = "agents: {implementer: {adapter: command, command: ['true']}}\n"
    write_config(repo, f"version: 1\nbase: main\ngates: [human]\n{text}\n{agents}")
    said = repo.octopoid("config", "check", ok=(4,))
    message, _, hint = problem.partition("|")
    assert message in said.out + said.err and hint in said.out + said.err


def test_an_agent_says_what_differs_and_a_role_makes_it_stricter(repo: Repo) -> None:
    from octopoid import config

    role = "---\nproduces: verdict\nsandbox: {network: off, memory: 1G, hide: [~/work]}\n---\nLook.\n"
    write_config(
        repo,
        "version: 1\nbase: main\nsandbox: {mode: on, memory: 2G, write: [~/.npm]}\nagents:\n"
        "  implementer: {adapter: command, command: ['true'], sandbox: {network: off}}\n"
        "  careful: {role: looker, adapter: command, command: ['true'], sandbox: required}\n"
        "  free: {role: implementer, adapter: command, command: ['true'], sandbox: off}\n",
    )
    repo.layout.roles.mkdir(exist_ok=True)
    (repo.layout.roles / "looker.md").write_text(role)
    found = config.load(repo.layout.home)
    assert found.sandbox == Sandbox("on", memory=2 << 30, write=("~/.npm",))
    assert found.agents["implementer"].sandbox == found.sandbox._replace(network=False)
    assert found.agents["free"].sandbox.mode == "off"
    both = configsandbox.stricter(found.agents["careful"].sandbox, found.roles["looker"].sandbox)
    assert both == Sandbox("required", False, ("~/.npm",), (), ("~/work",), 1 << 30)
    (repo.layout.roles / "looker.md").write_text(role.replace("hide", "write"))
    with pytest.raises(Invalid, match=r"looker.md:3:\d+: `write` is not a role's to say"):
        config.load(repo.layout.home)


# --- as text: what macOS is told was never run there ---


def said(root: Path, **more: Any) -> Mapping[str, Any]:
    home = root / ".octopoid"
    places = {"root": root, "home": "/Users/ada", "worktree": home / "worktrees/one", "worktrees": home / "worktrees"}
    places |= {"entry": home / "attempts/one/001", "mine": home / "attempts/one/001/sandbox", "common": root / ".git"}
    places |= {"gitdir": root / ".git/worktrees/one"}
    return {**{name: str(path) for name, path in places.items()}, **more}


def test_the_profile_for_macos() -> None:
    box = {**Sandbox("required", network=False, write=("~/.npm",))._asdict(), "git_credentials": False}
    text = sandbox.profile(box, sandbox.View(said(Path('/Users/ada/a "b"'))))
    assert text.startswith("(version 1)\n(allow default)\n(deny network*)\n")
    lines = text.splitlines()
    allowed = next(at for at, line in enumerate(lines) if line.startswith("(allow file-write*") and "npm" in line)
    evidence = next(at for at, line in enumerate(lines) if line.startswith("(deny") and "outcome.json" in line)
    assert lines.index("(deny file-write*)") < allowed < evidence
    assert '(subpath "/Users/ada/.ssh")' in text and '(subpath "/Users/ada/.npm")' in lines[allowed]
    assert '(subpath "/Users/ada/a \\"b\\"/.octopoid/worktrees/one")' in lines[allowed]
    assert text.count("(") == text.count(")") and "deny network" not in sandbox.profile(
        {**box, "network": True}, sandbox.View(said(Path("/r")))
    )


def test_other_systems_and_other_programs_are_told_so() -> None:
    assert sandboxing.program("on", "/usr/bin", "win32") == ("", "there is no sandbox for win32")
    assert "bwrap is" in sandboxing.program("sandbox-exec", "/usr/bin", "linux")[1]
    assert "apt install bubblewrap" in sandboxing.program("required", "/nowhere", "linux")[1]
