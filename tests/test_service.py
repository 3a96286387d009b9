"""The service: what is written for systemd, launchd and cron; uninstall takes away exactly what install made."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import OCTOPOID, Repo, init, make_repo, write_config

from octopoid import installing, service
from octopoid.errors import UsageError
from octopoid.locks import take
from octopoid.service import Job

NASTY = "/srv/a b/100%/q\"uote/$HOME/back\\slash/'s"
PATH = '/usr/bin:/opt/my tools/bin:/100%:/do$lar:/q"uote'

AGENTS = """\
agents:
  implementer: {adapter: command, command: ["true"], env: [MY_KEY, ZZ_TOKEN]}
"""


def job(root: str | Path = NASTY, **more: object) -> Job:
    return Job(Path(root), ("/opt/o p/bin/octopoid",), PATH)._replace(**more)


@pytest.fixture
def here(tmp_path: Path) -> Repo:
    """A repository whose path needs quoting everywhere."""
    repo = make_repo(tmp_path, "my 100% pro$ject's")
    init(repo)
    write_config(repo, AGENTS)
    return repo


def files(repo: Repo) -> dict[str, bytes]:
    """Everything in the user's home."""
    home = Path(repo.env["HOME"])
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def tool(repo: Repo, name: str, script: str) -> dict[str, str]:
    """A stand-in for a program of the system, first on PATH."""
    folder = repo.root.parent / "tools"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{repo.env['PATH']}"}


def manager(repo: Repo, name: str = "systemctl", status: int = 0) -> tuple[dict[str, str], Path]:
    """A systemctl or launchctl that writes down what it is asked."""
    log = repo.root.parent / f"{name}.log"
    return tool(repo, name, f'echo "$@" >> {shlex.quote(str(log))}\nexit {status}'), log


# --- the text ---


def test_the_unit_is_one_that_systemd_takes(here: Repo) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    text = here.octopoid("service", "show", "--systemd", "--interval", "5").out
    unit = here.root.parent / f"{service.name_of(here.root)}.service"
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        env={**here.env, "XDG_RUNTIME_DIR": str(here.root.parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["/opt/a b/100%/x", "/opt/$HOME/%h/$$"])
def test_systemd_reads_the_program_as_it_was_meant(tmp_path: Path, program: str) -> None:
    """It is not there, and systemd says so in its own words: as it understood the name."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / "octopoid-test.service"
    unit.write_text(service.unit(job(tmp_path, command=(program,))), encoding="utf-8")
    argv = ["systemd-analyze", "verify", "--user", "--man=no", str(unit)]
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=30, check=False)
    assert f"Command {program} is not executable" in done.stderr


def test_a_program_that_systemd_refuses_goes_through_a_shell(tmp_path: Path) -> None:
    """`Executable name contains special characters`: it takes no quote and no backslash there."""
    place = tmp_path / NASTY.lstrip("/")
    place.mkdir(parents=True)
    unit = tmp_path / "octopoid-test.service"
    text = service.unit(job(tmp_path, command=(f"{place}/octopoid", "a b")))
    unit.write_text(text, encoding="utf-8")
    assert service.read_unit(text.encode()).program == f"{place}/octopoid"
    if shutil.which("systemd-analyze"):
        argv = ["systemd-analyze", "verify", "--user", "--man=no", str(unit)]
        env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
        done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", timeout=30, check=False)
        assert done.returncode == 0, done.stderr


def test_the_unit_is_quoted_as_its_manual_says() -> None:
    unit = service.unit(job())
    assert "WorkingDirectory=/srv/a b/100%%/q\"uote/$HOME/back\\slash/'s\n" in unit
    assert 'Environment="PATH=/usr/bin:/opt/my tools/bin:/100%%:/do$lar:/q\\"uote"\n' in unit
    assert 'ExecStart="/opt/o p/bin/octopoid" "run"\n' in unit


def test_the_unit_leaves_agents_alone_and_says_nothing_twice() -> None:
    lines = service.unit(job(wants=("MY_KEY",))).splitlines()
    assert "KillMode=process" in lines
    assert "Restart=on-failure" in lines
    never = next(line for line in lines if line.startswith("RestartPreventExitStatus=")).partition("=")[2].split()
    assert {"4", "5"} <= set(never)
    assert "EnvironmentFile=-%h/.config/octopoid/env" in lines


def test_a_program_with_a_dollar_is_no_variable() -> None:
    unit = service.unit(job(command=("/opt/$x/octopoid",)))
    assert 'ExecStart=":/opt/$x/octopoid" "run"\n' in unit
    assert service.read_unit(unit.encode()).program == "/opt/$x/octopoid"


@pytest.mark.parametrize("kind", [service.unit, service.plist, service.cron_line])
@pytest.mark.parametrize("bad", ["/a\nb", "/a\0b", "/a\x1b", "/a\udc80b"])
def test_what_cannot_be_written_is_refused(kind: Callable[[Job], object], bad: str) -> None:
    for broken in (job(bad), job(path=bad), job(command=(bad,))):
        with pytest.raises(UsageError):
            kind(broken)


@pytest.mark.parametrize("bad", ["/ends in \\", "/ends in a blank "])
def test_a_root_that_systemd_cannot_work_in_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        service.unit(job(bad))


def test_what_is_recorded_can_be_read_again() -> None:
    recorded = installing.Recorded("/opt/o p/bin/octopoid", PATH)
    assert service.read_unit(service.unit(job()).encode()) == recorded
    assert service.read_plist(service.plist(job())) == recorded
    for rubbish in (b"", b"\xff", b"ExecStart=x", b"<plist/>", plistlib.dumps({"ProgramArguments": []})):
        assert service.read_unit(rubbish) == ("", "")
        assert service.read_plist(rubbish) == ("", "")


def test_the_plist_says_what_was_meant() -> None:
    record = plistlib.loads(service.plist(job(interval=2.5)))
    assert record["WorkingDirectory"] == NASTY
    assert record["ProgramArguments"][3:] == ["octopoid", "/opt/o p/bin/octopoid", "run", "--interval", "2.5"]
    assert record["EnvironmentVariables"] == {"PATH": PATH}
    assert record["AbandonProcessGroup"] is True
    assert record["KeepAlive"] == {"SuccessfulExit": False}
    assert record["Label"] == service.label_of(Path(NASTY))


def test_the_plists_shell_hands_on_secrets_and_arguments(tmp_path: Path) -> None:
    (tmp_path / ".config/octopoid").mkdir(parents=True)
    (tmp_path / ".config/octopoid/env").write_text("MY_KEY='a b'\n", encoding="utf-8")
    show = ("/bin/sh", "-c", 'echo "$MY_KEY|$*"', "-")
    argv = plistlib.loads(service.plist(job(command=show)))["ProgramArguments"]
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    assert subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", check=True).stdout == "a b|run\n"


def test_crons_shell_runs_it_there(here: Repo) -> None:
    """As cron does: the command up to the first bare %, with `\\%` as %, in `sh -c`, at home, with hardly a PATH."""
    show = here.root.parent / "pro%gram"
    show.write_text('#!/bin/sh\npwd; echo "$PATH|$MY_KEY|$*"\n', encoding="utf-8")
    show.chmod(0o755)
    secrets = Path(here.env["HOME"], ".config/octopoid/env")
    secrets.parent.mkdir(parents=True)
    secrets.write_text("MY_KEY=k\n", encoding="utf-8")
    line = service.cron_line(Job(here.root, (str(show),), PATH))
    assert line.startswith("* * * * * ")
    assert "%" not in line.replace("\\%", "")
    command = line.removeprefix("* * * * * ").replace("\\%", "%")
    env = {"HOME": here.env["HOME"], "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", command], cwd=here.env["HOME"], env=env, check=True)
    log = here.layout.scheduler_log.read_text(encoding="utf-8")
    assert log.splitlines() == [str(here.root), f"{PATH}|k|run --once"]


def test_a_line_that_cron_would_cut_off_is_refused() -> None:
    with pytest.raises(UsageError, match="characters"):
        service.cron_line(job(path=":".join(["/usr/local/some/folder"] * 50)))
    with pytest.raises(UsageError, match="interval"):
        service.cron_line(job(interval=5.0))


def test_each_root_has_a_service_of_its_own() -> None:
    one, two = service.name_of(Path("/a/project")), service.name_of(Path("/b/project"))
    assert one != two
    assert one.startswith("octopoid-project-")
    assert service.name_of(Path("/")).startswith("octopoid-root-")
    assert service.name_of(Path("/übung 1%")).isascii()


def test_the_command_is_the_program_that_runs() -> None:
    assert installing.command_of(str(OCTOPOID), sys.executable) == (str(OCTOPOID),)
    assert installing.command_of("/x/octopoid/__main__.py", "/x/python") == ("/x/python", "-m", "octopoid")


# --- show ---


def test_show_writes_nothing_and_tells_no_secret(here: Repo) -> None:
    before = files(here)
    env = {"MY_KEY": "sekret-1", "ZZ_TOKEN": "sekret-2"}
    for kind in ("--systemd", "--launchd", "--cron"):
        answer = here.octopoid("service", "show", kind, env=env)
        assert "sekret" not in answer.out + answer.err
        assert str(OCTOPOID) in answer.out
    assert "MY_KEY, ZZ_TOKEN" in here.octopoid("service", "show", "--systemd", env=env).out
    assert files(here) == before


def test_show_as_json(here: Repo) -> None:
    record = here.octopoid("service", "show", "--systemd", "--json").json()
    assert record["kind"] == "service"
    assert record["manager"] == "systemd"
    assert record["installed"] is False
    assert record["text"] == here.octopoid("service", "show", "--systemd").out
    assert record["path"] == str(service.unit_file(here.root, here.env))


def test_one_manager_at_a_time(here: Repo) -> None:
    assert here.octopoid("service", "show", "--systemd", "--cron", ok=[2]).status == 2


# --- install and uninstall ---


def test_systemd_install_and_uninstall(here: Repo) -> None:
    before = files(here)
    env, log = manager(here)
    name = f"{service.name_of(here.root)}.service"
    answer = here.octopoid("service", "install", "--systemd", env=env)
    assert f"wrote {service.unit_file(here.root, here.env)}" in answer.out
    asked = log.read_text(encoding="utf-8").splitlines()
    assert asked[1:] == ["--user daemon-reload", f"--user enable --now {name}", f"--user restart {name}"]
    assert "MY_KEY" in answer.err
    again = here.octopoid("service", "install", "--systemd", env=env)
    assert "up to date" in again.out
    assert f"--user restart {name}" not in log.read_text(encoding="utf-8").splitlines()[4:]
    assert here.octopoid("service", "show", "--systemd", "--json", env=env).json()["installed"] is True
    log.unlink()
    link = service.unit_file(here.root, here.env).parent / "default.target.wants" / name
    link.parent.mkdir()
    link.symlink_to(f"../{name}")  # what a real `enable` makes
    here.octopoid("service", "uninstall", env=env)
    assert log.read_text(encoding="utf-8").splitlines()[1:] == [f"--user disable --now {name}", "--user daemon-reload"]
    assert files(here) == before
    assert not link.is_symlink()
    assert "no service" in here.octopoid("service", "uninstall", env=env).err


def test_without_a_manager_that_answers_it_says_what_to_run(here: Repo) -> None:
    env, log = manager(here, status=1)
    answer = here.octopoid("service", "install", "--systemd", env=env)
    assert "systemctl --user daemon-reload" in answer.err
    assert f"systemctl --user enable --now {service.name_of(here.root)}.service" in answer.err
    assert log.read_text(encoding="utf-8").splitlines() == ["--user show --property=Version"]
    assert service.unit_file(here.root, here.env).is_file()
    here.octopoid("service", "uninstall", env=env)
    assert not service.unit_file(here.root, here.env).exists()


def test_a_manager_that_says_no_is_heard(here: Repo) -> None:
    env = tool(here, "systemctl", 'case "$*" in *enable*) echo "Unit is masked" >&2; exit 1;; esac')
    answer = here.octopoid("service", "install", "--systemd", env=env, ok=[1])
    assert "Unit is masked" in answer.err


def test_launchd_install_and_uninstall(here: Repo) -> None:
    before = files(here)
    env, log = manager(here, "launchctl")
    here.octopoid("service", "install", "--launchd", env=env)
    path = service.plist_file(here.root, here.env)
    assert plistlib.loads(path.read_bytes())["WorkingDirectory"] == str(here.root)
    domain, label = f"gui/{os.getuid()}", service.label_of(here.root)
    assert log.read_text(encoding="utf-8").splitlines() == [f"bootout {domain}/{label}", f"bootstrap {domain} {path}"]
    assert "up to date" in here.octopoid("service", "install", "--launchd", env=env).out
    here.octopoid("service", "uninstall", env=env)
    assert files(here) == before


@pytest.mark.parametrize("kind", ["--systemd", "--launchd"])
def test_a_file_of_somebody_else_stays(here: Repo, kind: str) -> None:
    path = (service.unit_file if kind == "--systemd" else service.plist_file)(here.root, here.env)
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/mine\n", encoding="utf-8")
    before = files(here)
    for verb in ("install", "uninstall"):
        assert "not written by octopoid" in here.octopoid("service", verb, kind, ok=[5]).err
    assert files(here) == before


CRONTAB = """\
if [ "$1" = -l ]; then
    [ -e {tab} ] || {{ echo "no crontab for me" >&2; exit 1; }}
    exec cat {tab}
fi
exec cat > {tab}
"""


def test_cron_install_and_uninstall(here: Repo) -> None:
    tab = here.root.parent / "crontab"
    env = tool(here, "crontab", CRONTAB.format(tab=shlex.quote(str(tab))))
    printed = here.octopoid("service", "install", "--cron", env=env)
    assert printed.out.startswith("* * * * * cd ")
    assert not tab.exists()
    here.octopoid("service", "install", "--cron", "-y", env=env)
    assert tab.read_text(encoding="utf-8") == printed.out
    tab.write_text("# mine\n0 4 * * * backup --to 50%", encoding="utf-8")  # no line end at its end
    here.octopoid("service", "install", "--cron", "-y", env=env)
    assert tab.read_text(encoding="utf-8") == "# mine\n0 4 * * * backup --to 50%\n" + printed.out
    assert "up to date" in here.octopoid("service", "install", "--cron", "-y", env=env).out
    asked = here.octopoid("service", "uninstall", "--cron", env=env)
    assert "-y" in asked.err
    assert printed.out in tab.read_text(encoding="utf-8")
    here.octopoid("service", "uninstall", "-y", env=env)
    assert tab.read_text(encoding="utf-8") == "# mine\n0 4 * * * backup --to 50%\n"


def test_a_crontab_that_cannot_be_read_is_not_replaced(here: Repo) -> None:
    tab = here.root.parent / "crontab"
    tab.write_text("0 4 * * * backup\n", encoding="utf-8")
    script = f'[ "$1" = -l ] && {{ echo "permission denied" >&2; exit 1; }}; exec cat > {shlex.quote(str(tab))}'
    env = tool(here, "crontab", script)
    assert "permission denied" in here.octopoid("service", "install", "--cron", "-y", env=env, ok=[1]).err
    assert tab.read_text(encoding="utf-8") == "0 4 * * * backup\n"


def test_without_cron_it_says_so(here: Repo) -> None:
    folder = here.root.parent / "few"
    folder.mkdir()
    env = {"PATH": str(folder)}
    assert here.octopoid("service", "install", "--cron", "-y", env=env, ok=[3]).status == 3


def test_a_scheduler_that_runs_already_is_named(here: Repo) -> None:
    lock = take(here.layout.scheduler_lock)
    assert lock is not None
    try:
        env, _ = manager(here)
        assert "octopoid stop" in here.octopoid("service", "install", "--systemd", env=env).err
    finally:
        os.close(lock)


def test_an_agent_installs_no_service(here: Repo) -> None:
    env = {"OCTOPOID_ATTEMPT_DIR": str(here.root.parent / "nowhere")}
    assert here.octopoid("service", "install", "--systemd", env=env, ok=[5]).status == 5
    assert files(here) == {}


def test_an_invalid_policy_is_told(here: Repo) -> None:
    write_config(here, "agents: {}\n")
    assert "config check" in here.octopoid("service", "show").err
