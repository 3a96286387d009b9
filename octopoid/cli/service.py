"""`octopoid service`: run the scheduler as a service of systemd or launchd, or from cron."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from enum import StrEnum
from typing import Annotated

import typer

from octopoid import config, installing, service, stopping
from octopoid.cli import common, trust
from octopoid.errors import Conflict, Invalid, UsageError
from octopoid.installing import Changed
from octopoid.layout import ENV_FILE, Layout
from octopoid.service import Job

cli = typer.Typer(no_args_is_help=True, help="Run the scheduler as a service: systemd, launchd or cron.")


class Kind(StrEnum):
    """Who starts the scheduler."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"
    CRON = "cron"


Systemd = Annotated[bool, typer.Option("--systemd", help="A unit of your user's systemd. Default on Linux.")]
Launchd = Annotated[bool, typer.Option("--launchd", help="A launchd agent. Default on macOS.")]
Cron = Annotated[bool, typer.Option("--cron", help="A line in your crontab: `run --once` each minute.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Change the crontab; without it the line is only printed.")]
Interval = Annotated[
    float, typer.Option("--interval", metavar="SECONDS", min=0.0, help="Passed on to `octopoid run`. Default: its own.")
]


@cli.command(
    epilog=common.examples("octopoid service install", "octopoid service install --cron -y", "octopoid service show")
)
def install(
    systemd: Systemd = False,
    launchd: Launchd = False,
    cron: Cron = False,
    interval: Interval = 0.0,
    yes: Yes = False,
) -> None:
    """Have the scheduler of this repository started now, and at each login.

    The PATH of this shell is recorded, so that agents' programs are found. Nothing else of your environment is: keys go
    into ~/.config/octopoid/env. Again: brings what is installed up to date.
    """
    layout = common.layout()
    if stopping.is_own_agent():
        raise Conflict("an agent must not install a service", "leave the result; the scheduler does the rest")
    trust.require(layout)
    kind = _kind(systemd, launchd, cron)
    job = _job(layout, interval)
    if kind is Kind.CRON:
        _install_cron(job, yes)
    else:
        _warn_of_others(layout, job)
        done = (
            installing.install_unit(job, os.environ)
            if kind is Kind.SYSTEMD
            else installing.install_plist(job, os.environ, os.getuid())
        )
        _tell_installed(kind, done)
    if job.wants:
        common.say(f"agents want {', '.join(job.wants)}: write NAME=value lines into ~/{ENV_FILE} (chmod 600)")
    common.next_step("octopoid status says whether the scheduler runs; octopoid doctor whether it finds everything")


@cli.command(epilog=common.examples("octopoid service uninstall", "octopoid service uninstall --cron -y"))
def uninstall(systemd: Systemd = False, launchd: Launchd = False, cron: Cron = False, yes: Yes = False) -> None:
    """Remove what `install` made, and nothing else. Agents at work go on.

    Without an option: whichever of them is installed.
    """
    layout = common.layout()
    wanted = [_kind(systemd, launchd, cron)] if systemd or launchd or cron else list(Kind)
    found = [_uninstall(layout, kind, yes, asked=len(wanted) == 1) for kind in wanted]
    if not any(found):
        common.say("no service of this repository is installed")
    common.next_step("octopoid run works in the foreground")


@cli.command(
    epilog=common.examples(
        "octopoid service show",
        "octopoid service show --launchd",
        "octopoid service show --cron | crontab -    # where it is the only line",
    )
)
def show(
    systemd: Systemd = False,
    launchd: Launchd = False,
    cron: Cron = False,
    interval: Interval = 0.0,
    as_json: common.Json = False,
) -> None:
    """Print what `install` would write, and write nothing."""
    layout = common.layout()
    kind, job = _kind(systemd, launchd, cron), _job(layout, interval)
    path, text = _rendered(kind, job)
    present = path is not None and os.path.lexists(path)
    if as_json:
        common.emit(
            "service", manager=kind.value, name=service.name_of(job.root), path=path, installed=present, text=text
        )
    else:
        common.out(text.removesuffix("\n"))
    if path:
        common.say(f"{'installed at' if present else 'would be'} {path}")
    common.next_step(f"octopoid service install --{kind.value}" + (" -y" if kind is Kind.CRON else ""))


def _kind(systemd: bool, launchd: bool, cron: bool) -> Kind:
    """What was asked for, else what this system has."""
    asked = [kind for kind, said in zip(Kind, (systemd, launchd, cron), strict=True) if said]
    if len(asked) > 1:
        raise UsageError("--systemd, --launchd and --cron are three ways to the same", "give one of them")
    if asked:
        return asked[0]
    if sys.platform == "darwin":
        return Kind.LAUNCHD
    return Kind.SYSTEMD if shutil.which("systemctl") else Kind.CRON


def _job(layout: Layout, interval: float) -> Job:
    wants: set[str] = set()
    try:
        for agent in config.load(layout.home, templates=False).agents.values():
            wants.update(agent.env)
    except Invalid as error:
        common.say(f"warning: {error.message}")
        common.say("  octopoid config check shows what is wrong; the service would not start")
    command = installing.command_of(sys.argv[0], sys.executable)
    return Job(layout.root, command, os.environ.get("PATH", os.defpath), interval, tuple(sorted(wants)))


def _rendered(kind: Kind, job: Job) -> tuple[str | None, str]:
    if kind is Kind.SYSTEMD:
        return str(service.unit_file(job.root, os.environ)), service.unit(job)
    if kind is Kind.LAUNCHD:
        return str(service.plist_file(job.root, os.environ)), service.plist(job).decode()
    return None, service.cron_line(job) + "\n"


def _warn_of_others(layout: Layout, job: Job) -> None:
    """One that runs in the foreground keeps the service from starting: exit 5, and no restart."""
    known = any(True for _ in installing.installed(job.root, os.environ))
    pid = stopping.holder(layout)
    if pid is not None and not known:
        named = f" (pid {pid})" if pid else ""
        common.say(f"warning: a scheduler runs already{named}; end it with `octopoid stop`, then install again")


def _tell_installed(kind: Kind, done: Changed) -> None:
    common.out(f"{'wrote' if done.changed else 'up to date:'} {done.path}")
    if done.told:
        common.say("the service is enabled, and started")
    else:
        common.say(
            f"{'systemd of your user' if kind is Kind.SYSTEMD else 'launchd'} does not answer here; where it does, run:"
        )
        _commands(done)
    if kind is Kind.SYSTEMD:
        common.say("it ends when you log out, unless you run once: loginctl enable-linger")


def _commands(done: Changed) -> None:
    for argv in done.commands:
        common.say(f"  {shlex.join(argv)}")


def _install_cron(job: Job, yes: bool) -> None:
    line = service.cron_line(job)
    if not yes:
        common.out(line)
        common.say("nothing was changed: add this line with `crontab -e`, or let me do it with -y")
        return
    before = installing.crontab(os.environ)
    kept = service.without_line(before, job.root)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    after = f"{kept}{line}\n"
    if after != before:
        installing.write_crontab(after, os.environ)
    common.out("added to your crontab" if after != before else "up to date: your crontab")
    common.out(line)


def _uninstall(layout: Layout, kind: Kind, yes: bool, asked: bool) -> bool:
    """False: there was nothing of this kind."""
    if kind is Kind.CRON:
        return _uninstall_cron(layout, yes, asked)
    done = (
        installing.uninstall_unit(layout.root, os.environ)
        if kind is Kind.SYSTEMD
        else installing.uninstall_plist(layout.root, os.environ, os.getuid())
    )
    if not done.changed:
        return False
    common.out(f"removed {done.path}")
    if not done.told:
        common.say("its manager does not answer here; if the service still runs, end it there:")
        _commands(done)
    return True


def _uninstall_cron(layout: Layout, yes: bool, asked: bool) -> bool:
    if not asked and not shutil.which("crontab"):
        return False
    before = installing.crontab(os.environ)
    if not service.has_line(before, layout.root):
        return False
    if not yes:
        common.say(
            "a line of your crontab starts it; nothing was changed there: give -y, or remove it with `crontab -e`"
        )
        return True
    installing.write_crontab(service.without_line(before, layout.root), os.environ)
    common.out("removed the line from your crontab")
    return True
