"""The scheduler as a service: the text of a systemd unit, a launchd agent, a crontab line. Pure.

None of them holds a secret: of the environment only PATH is written down, and what agents need besides is read from
ENV_FILE at each start.
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.parsers.expat import ExpatError

from octopoid.errors import UsageError
from octopoid.layout import ENV_FILE, Layout

NEVER_AGAIN = (2, 3, 4, 5)
"""Exit statuses after which a restart would only say the same again: usage, no root, invalid policy, another runs."""

CRON_LINE = 990
"""Characters. cron cuts a command off at 1,000."""

_MARK = "Written by octopoid"
# `set -a`: what the file sets is exported. The file is also what systemd's EnvironmentFile reads.
_WITH_ENV = 'set -a; [ ! -r "$HOME/{file}" ] || . "$HOME/{file}"; set +a; exec "$@"'


class Job(NamedTuple):
    """What the service shall do. `command`: the program and its first arguments. `interval`: seconds, 0 = the usual.

    `path`: the PATH it gets. `wants`: environment variables that agents are given.
    """

    root: Path
    command: tuple[str, ...]
    path: str
    interval: float = 0.0
    wants: tuple[str, ...] = ()

    @property
    def run(self) -> tuple[str, ...]:
        """The whole command."""
        return (*self.command, "run", *(("--interval", f"{self.interval:g}") if self.interval else ()))


class Recorded(NamedTuple):
    """What an installed service says: its program and its PATH."""

    program: str
    path: str


def name_of(root: Path) -> str:
    """The name of the service of this root: `octopoid-<folder>-<hash of the whole path>`."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-")[:40] or "root"
    return f"octopoid-{word}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def unit_file(root: Path, env: Mapping[str, str]) -> Path:
    """Where the systemd user unit is."""
    folder = env.get("XDG_CONFIG_HOME") or f"{_home(env)}/.config"
    return Path(folder, "systemd/user", f"{name_of(root)}.service")


def plist_file(root: Path, env: Mapping[str, str]) -> Path:
    """Where the launchd agent is."""
    return Path(_home(env), "Library/LaunchAgents", f"{label_of(root)}.plist")


def label_of(root: Path) -> str:
    """The label of the launchd agent."""
    return f"org.{name_of(root)}"


# --- systemd ---


def unit(job: Job) -> str:
    """The systemd user unit. Raises UsageError for a path that a unit cannot carry."""
    root = str(job.root)
    if root.endswith("\\") or root != root.strip():
        raise UsageError(f"systemd cannot work in {root!r}: it ends in a backslash or a blank", "rename the folder")
    # systemd takes no program with a quote or a backslash in its name, as arguments it takes them
    shell = ("/bin/sh", "-c", 'exec "$@"', "octopoid") if set(job.command[0]) & set("\"'\\") else ()
    words = " ".join(_systemd(word) for word in (*shell, *job.run))
    if "$" in words:
        words = words.replace('"', '":', 1)  # systemd 244 and newer: no variables in this command
    wants = f"# Agents are given, of the environment: {', '.join(job.wants)}\n" if job.wants else ""
    return f"""\
# {_MARK}: `octopoid service install` writes it anew, `octopoid service uninstall` removes it.
[Unit]
Description=Octopoid scheduler of {_percent(_checked(root))}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
WorkingDirectory={_percent(_checked(root))}
ExecStart={words}
Environment={_systemd(f"PATH={job.path}")}
{wants}# Values do not belong in here: NAME=value lines in this file (chmod 600) are read at each start.
EnvironmentFile=-%h/{ENV_FILE}
# Agents at work outlive the scheduler; the next one takes in what they did.
KillMode=process
Restart=on-failure
RestartSec=10
RestartPreventExitStatus={" ".join(map(str, NEVER_AGAIN))}

[Install]
WantedBy=default.target
"""


def read_unit(data: bytes) -> Recorded:
    """What `unit` wrote into its text; "" for what is not there."""
    found: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        if key in ("ExecStart", "Environment") and value.startswith('"'):
            found.setdefault(key, _words(value))
    words, path = found.get("ExecStart", [""]), found.get("Environment", [""])[0]
    program = words[4] if words[0] == ":/bin/sh" and len(words) > 4 else words[0]
    return Recorded(program.removeprefix(":"), path.removeprefix("PATH="))


def _systemd(word: str) -> str:
    """One word, quoted as systemd.syntax(7) and systemd.unit(5) (specifiers) say."""
    escaped = _checked(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_percent(escaped)}"'


def _words(line: str) -> list[str]:
    """The words that `_systemd` quoted."""
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in quoted] or [""]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _checked(text: str) -> str:
    """`text`, if a line of a service's file can carry it. Raises UsageError."""
    if any(ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{text!r} has characters that a service's file cannot carry", "rename the folder")
    return text


# --- launchd ---


def plist(job: Job) -> bytes:
    """The launchd agent. It knows no exit statuses: after any failure it tries again, twice a minute at most."""
    log = str(Layout(job.root).scheduler_log)
    for text in (str(job.root), *job.run, job.path):
        _checked(text)
    return plistlib.dumps(
        {
            "Label": label_of(job.root),
            "ProgramArguments": ["/bin/sh", "-c", _WITH_ENV.format(file=ENV_FILE), "octopoid", *job.run],
            "WorkingDirectory": str(job.root),
            "EnvironmentVariables": {"PATH": job.path},
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "AbandonProcessGroup": True,  # agents at work outlive the scheduler
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }
    )


def read_plist(data: bytes) -> Recorded:
    """What `plist` wrote into its text; "" for what is not there."""
    try:
        record = plistlib.loads(data)
        return Recorded(str(record["ProgramArguments"][4]), str(record["EnvironmentVariables"]["PATH"]))
    except (ValueError, KeyError, IndexError, TypeError, ExpatError):
        return Recorded("", "")


# --- cron ---


def cron_line(job: Job) -> str:
    """The line of a crontab: once a minute, `run --once`. Raises UsageError where cron could not read it."""
    if job.interval:
        raise UsageError("cron starts it once a minute: there is no --interval", "leave --interval away")
    words = " ".join(shlex.quote(_checked(word)) for word in (*job.command, "run", "--once"))
    env = f'{{ [ ! -r "$HOME/{ENV_FILE}" ] || . "$HOME/{ENV_FILE}"; }}'
    place, path = shlex.quote(_checked(str(job.root))), shlex.quote(_checked(job.path))
    layout = Layout(job.root)
    log = layout.short(layout.scheduler_log)  # relative: a blank or a percent sign in the root needs no quoting here
    command = f"cd {place} && set -a && {env} && PATH={path} {words} >>{log} 2>&1"
    # cron reads % as the end of a line, also inside quotes
    line = f"* * * * * {command} # {name_of(job.root)}".replace("%", "\\%")
    if len(line) > CRON_LINE:
        raise UsageError(
            f"cron cannot read a line of {len(line)} characters; most of it is your PATH",
            "install from a shell with a shorter PATH: env PATH=/usr/local/bin:/usr/bin:/bin octopoid service …",
        )
    return line


def without_line(crontab: str, root: Path) -> str:
    """`crontab` without the line of this root; every other line as it was."""
    return "".join(line for line in crontab.splitlines(keepends=True) if not _is_line(line, root))


def has_line(crontab: str, root: Path) -> bool:
    """Is the line of this root in `crontab`?"""
    return any(_is_line(line, root) for line in crontab.splitlines())


def _is_line(line: str, root: Path) -> bool:
    return line.rstrip().endswith(f" # {name_of(root)}")


# --- all of them ---


def is_ours(data: bytes) -> bool:
    """Did octopoid write this unit or agent?"""
    return _MARK.encode() in data or b"<string>org.octopoid-" in data


def _home(env: Mapping[str, str]) -> str:
    home = env.get("HOME")
    if not home:
        raise UsageError("HOME is not set, so there is no place for a service", "set HOME")
    return home
