"""Installing the service: its file, and a word with systemd, launchd or cron. What is installed is taken away exactly.

The manager is asked only where it is there and answers; elsewhere the caller is given the commands for the person.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import durable, process, service
from octopoid.errors import Conflict, NotFound, OctopoidError, TimedOut
from octopoid.service import Job, Recorded

PATIENCE = 30.0
"""Seconds that a manager gets to answer."""


class Said(NamedTuple):
    """What a program said: exit status, stdout and stderr."""

    status: int
    text: str


class Changed(NamedTuple):
    """What was done. `told`: the manager knows it already. `commands`: what a person has to run where it does not."""

    path: Path
    changed: bool
    told: bool
    commands: tuple[tuple[str, ...], ...]


def command_of(argv0: str, executable: str) -> tuple[str, ...]:
    """How to start octopoid later, from anywhere: the program that runs now, else this Python with `-m`."""
    program = os.path.abspath(argv0)  # noqa: PTH100 - not resolved: a link of pipx outlives what it points to
    if Path(program).name == "octopoid" and os.access(program, os.X_OK):
        return (program,)
    return (executable, "-m", "octopoid")


def installed(root: Path, env: Mapping[str, str]) -> Iterator[tuple[Path, Recorded]]:
    """The services of this root that have a file (cron's has none), and what it says."""
    if not env.get("HOME"):
        return
    for path in (service.unit_file(root, env), service.plist_file(root, env)):
        data = _read(path)
        if data is not None:
            reader = service.read_plist if path.suffix == ".plist" else service.read_unit
            yield path, reader(data)


# --- systemd ---


def install_unit(job: Job, env: Mapping[str, str]) -> Changed:
    """Write the unit, and have the user's systemd start it now and at each login. Raises Conflict, OSError."""
    path = service.unit_file(job.root, env)
    changed = _write(path, service.unit(job).encode())
    commands = [("systemctl", "--user", "daemon-reload"), ("systemctl", "--user", "enable", "--now", path.name)]
    if changed:  # one that runs goes on with the old text otherwise; its agents are not touched
        commands.append(("systemctl", "--user", "restart", path.name))
    told = _user_manager(env)
    if told:
        _all(commands, env)
    return Changed(path, changed, told, tuple(commands[:2]))


def uninstall_unit(root: Path, env: Mapping[str, str]) -> Changed:
    """Stop the service and remove its unit, and the link that `enable` made. Raises Conflict, OSError."""
    path = service.unit_file(root, env)
    _check_ours(path)
    disable = ("systemctl", "--user", "disable", "--now", path.name)
    told = path.exists() and _user_manager(env)
    if told:
        ask(disable, env)  # of a unit that was never enabled it may complain
    changed = _remove(path)
    link = path.parent / "default.target.wants" / path.name
    if link.is_symlink():
        link.unlink()
    if told:
        ask(("systemctl", "--user", "daemon-reload"), env)
    return Changed(path, changed, told, (("systemctl", "--user", "stop", path.name),))


def _user_manager(env: Mapping[str, str]) -> bool:
    """Is there a systemd of the user that answers?"""
    if not shutil.which("systemctl", path=env.get("PATH")):
        return False
    return ask(("systemctl", "--user", "show", "--property=Version"), env).status == 0


# --- launchd ---


def install_plist(job: Job, env: Mapping[str, str], uid: int) -> Changed:
    """Write the agent, and have launchd start it now and at each login. Raises Conflict, OSError."""
    path = service.plist_file(job.root, env)
    changed = _write(path, service.plist(job))
    domain = f"gui/{uid}"
    commands = (("launchctl", "bootstrap", domain, str(path)),)
    told = _launchd(env)
    if told and changed:
        ask(("launchctl", "bootout", f"{domain}/{service.label_of(job.root)}"), env)  # the old one, if it is loaded
        _all(commands, env)
    return Changed(path, changed, told, commands)


def uninstall_plist(root: Path, env: Mapping[str, str], uid: int) -> Changed:
    """Stop the agent and remove its file. Raises Conflict, OSError."""
    path = service.plist_file(root, env)
    _check_ours(path)
    commands = (("launchctl", "bootout", f"gui/{uid}/{service.label_of(root)}"),)
    told = path.exists() and _launchd(env)
    if told:
        ask(commands[0], env)  # it may not be loaded
    return Changed(path, _remove(path), told, commands)


def _launchd(env: Mapping[str, str]) -> bool:
    return shutil.which("launchctl", path=env.get("PATH")) is not None


# --- cron ---


def crontab(env: Mapping[str, str]) -> str:
    """The user's crontab, "" when there is none. Raises NotFound without cron, OctopoidError when cron says no."""
    if not shutil.which("crontab", path=env.get("PATH")):
        raise NotFound("there is no `crontab` on PATH", "octopoid service show --cron prints the line")
    said = ask(("crontab", "-l"), {**env, "LC_ALL": "C"})
    if said.status and "no crontab" not in said.text:  # whatever else it is, writing a new one would lose the old one
        raise OctopoidError(f"crontab -l: {said.text.strip() or f'exit status {said.status}'}", "crontab -l")
    return "" if said.status else said.text


def write_crontab(text: str, env: Mapping[str, str]) -> None:
    """Replace the user's crontab. Raises OctopoidError when cron says no."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        said = ask(("crontab", "-"), env, stdin=file.name)
    if said.status:
        raise OctopoidError(f"crontab: {said.text.strip() or f'exit status {said.status}'}", "crontab -l")


# --- programs and files ---


def ask(argv: tuple[str, ...], env: Mapping[str, str], stdin: str = os.devnull) -> Said:
    """Run a program to its end. Raises TimedOut after PATIENCE, OSError when it cannot be started."""
    with tempfile.TemporaryFile() as output:
        pid = process.start(argv, env=dict(env), stdin=stdin, output=output.fileno())
        deadline, nap = time.monotonic() + PATIENCE, 0.002
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                process.send(pid, process.start_time(pid), signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimedOut(f"{' '.join(argv[:3])} did not answer within {PATIENCE:g} s")
            time.sleep(nap)
            nap = min(nap * 1.5, 0.05)
        output.seek(0)
        return Said(os.waitstatus_to_exitcode(ended[1]), output.read().decode("utf-8", "surrogateescape"))


def _all(commands: list[tuple[str, ...]] | tuple[tuple[str, ...], ...], env: Mapping[str, str]) -> None:
    for argv in commands:
        said = ask(argv, env)
        if said.status:
            raise OctopoidError(f"{' '.join(argv)}: {said.text.strip() or f'exit status {said.status}'}")


def _write(path: Path, data: bytes) -> bool:
    """False: it says that already. Raises Conflict when the file is somebody else's."""
    if _read(path) == data:
        return False
    _check_ours(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, data)
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    durable.sync_folder(path.parent)
    return True


def _check_ours(path: Path) -> None:
    data = _read(path)
    if data is not None and not service.is_ours(data):
        raise Conflict(f"{path} was not written by octopoid, so it stays as it is", "rename it, if it is not needed")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
