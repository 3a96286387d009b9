"""The entry point: what commands there are, and the one place where everything that goes wrong becomes an exit code.

`--version` answers before anything is loaded; a command's module is loaded when it is called (PERF.md, Starting).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple, NoReturn

from octopoid import __version__
from octopoid.errors import REFUSALS, Invalid, OctopoidError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

LOOK, MOVE, STEER, KEEP = "Look", "Add and decide", "Run and steer", "Set up and keep house"
PANELS = (LOOK, MOVE, STEER, KEEP)


class Command(NamedTuple):
    """Where a command is: `attribute` of `octopoid.cli.<module>` is its typer.Typer."""

    module: str
    help: str
    panel: str
    attribute: str = "cli"


COMMANDS: dict[str, Command] = {
    "status": Command("status", "What needs you, what runs, what waits, what landed.", LOOK),
    "list": Command("list_", "The tasks, one per line.", LOOK),
    "show": Command("show", "One task: its text, its entries, its verdicts.", LOOK),
    "why": Command("why", "Why a task does not go on, and the command that changes it.", LOOK),
    "log": Command("log", "What an agent does, or did.", LOOK),
    "diff": Command("diff", "What a task changed.", LOOK),
    "events": Command("events", "What happened, one line per transition.", LOOK),
    "thread": Command("thread", "All that was said about a task, in order.", LOOK),
    "decisions": Command("decisions", "What was decided, by whom and why.", LOOK),
    "cost": Command("cost", "What was spent, by role, model, task or day, and what is left of the budgets.", LOOK),
    "stats": Command("stats", "How the roles do: attempts, first yes, rounds, cost, time.", LOOK),
    "wait": Command("wait", "Wait until tasks are done.", LOOK),
    "enqueue": Command("enqueue", "Add a task.", MOVE),
    "edit": Command("edit", "Open a task file in your editor.", MOVE),
    "inbox": Command("inbox", "Everything that waits for you, one after the other.", MOVE),
    "say": Command("say", "Tell the agent at work something, and its next attempt.", MOVE),
    "approve": Command("moves", "Say yes to a task that waits for you.", MOVE, "approve"),
    "reject": Command("moves", "Say no, and why: the task goes back.", MOVE, "reject"),
    "answer": Command("moves", "Answer an agent's questions.", MOVE, "answer"),
    "retry": Command("moves", "Try again, with a new budget.", MOVE, "retry"),
    "cancel": Command("moves", "Give a task up.", MOVE, "cancel"),
    "reopen": Command("moves", "Work again on a task that is done.", MOVE, "reopen"),
    "undo": Command("undo", "Take back your last move.", MOVE),
    "project": Command("project", "Tasks that land together: list, show, land.", STEER),
    "run": Command("run", "The scheduler, in the foreground.", STEER),
    "pause": Command("steering", "Start nothing more: everything, some tasks, or an agent.", STEER, "pause"),
    "resume": Command("steering", "Go on after a pause, or try an agent again at once.", STEER, "resume"),
    "stop": Command("stop", "End the scheduler, or one attempt.", STEER),
    "attach": Command("attach", "Your shell in a task's worktree, hands off meanwhile.", STEER),
    "service": Command("service", "Run the scheduler as a service of your system.", STEER),
    "init": Command("init", "Make the .octopoid folder of a repository.", KEEP),
    "trust": Command("trust", "Let the policy of a clone run commands, once per repository.", KEEP),
    "roles": Command("roles", "What agents are for, and where each role comes from.", KEEP),
    "flows": Command("flows", "The ways a task can go, drawn as text.", KEEP),
    "config": Command("config", "Check the policy: agents.yaml, roles and flows.", KEEP),
    "lint": Command("lint", "Check task files.", KEEP),
    "fmt": Command("fmt", "Tidy task files.", KEEP),
    "clean": Command("clean", "Archive what is done and remove what is left over.", KEEP),
    "doctor": Command("doctor", "Find what is wrong with this machine and this queue.", KEEP),
    "instructions": Command("instructions", "What an agent should know about working here.", KEEP),
    "migrate": Command("migrate", "Bring a queue of another version to this one's format, or back.", KEEP),
    "schema": Command("schema", "The JSON schema of an output or a file.", KEEP),
    "paths": Command("paths", "Where everything is.", KEEP),
    "demo": Command("demo", "See it work, in a scratch repository.", KEEP),
}


class Short(NamedTuple):
    """A command whose usual arguments need no parser: `show` of this module takes them. `flags`: its
    options without a value, and the names of their arguments; `states`: the option that takes a folder.
    """

    module: str
    flags: dict[str, str]
    states: str = ""


_SHORT = {
    "status": Short("cli.overview", {"--json": "as_json"}),
    "list": Short("cli.listing", {"--json": "as_json", "--ready": "ready"}, "--state"),
    "run": Short("cli.running", {"--once": "once", "--until-empty": "until_empty"}),
}
"""What people, prompts, scripts and cron ask for all day. The parser would be half of the time (docs/benchmarks.md)."""

_FOLDERS = ("incoming", "claimed", "provisional", "blocked", "done")


def main() -> NoReturn:
    """Run the command line with `sys.argv` and leave with its exit code (DESIGN §10)."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"octopoid {__version__}\n")
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name or a text that this terminal cannot write must not end us
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def late(name: str) -> ModuleType:
    """The module `octopoid.<name>`, loaded now: what only some commands need, the others do not pay for."""
    return importlib.import_module(f"octopoid.{name}")


def _run() -> int:
    """The exit code of the command; whatever it raised is told on stderr."""
    argv = sys.argv[1:]
    try:
        code = _without_parser(argv)
        code = late("cli.group").run(argv) if code is None else code
        sys.stdout.flush()
        return int(code)
    except OctopoidError as error:
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        _give_up_stdout()
        return 1
    except Exception as error:  # noqa: BLE001 - the edge
        return _unexpected(error)


def _without_parser(argv: list[str]) -> int | None:
    """Run the command if it is one of `_SHORT` with no other options; its exit code. A test compares both ways."""
    verb, *options = argv or ["status"]
    short = _SHORT.get(verb)
    if short is None or "_OCTOPOID_COMPLETE" in os.environ:
        return None
    taken: dict[str, bool] = {}
    states: list[str] = []
    while options:
        option = options.pop(0)
        if option in short.flags:
            taken[short.flags[option]] = True
        elif option == short.states and options and options[0] in _FOLDERS:
            states.append(options.pop(0))
        else:
            return None
    return late(short.module).show(**taken, **({"states": states} if states else {})) or 0


def _give_up_stdout() -> None:
    """What is still to be written goes nowhere: Python would try it again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: OctopoidError) -> None:
    speak = late("cli.speak")
    problems = error.problems if isinstance(error, Invalid) else ()
    for problem in problems:
        speak.say(speak.clean_text(str(problem)))
        if problem.hint:
            speak.say(f"  {speak.clean_text(problem.hint)}")
    if not problems:
        speak.say(f"octopoid: {speak.clean_text(error.message)}")
    if error.hint and all(problem.hint != error.hint for problem in problems):
        speak.next_step(speak.clean_text(error.hint))


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in REFUSALS:
        _give_up_stdout()
        where = error.filename or "cannot go on"
        sys.stderr.write(late("legible").clean_text(f"octopoid: {where}: {error.strerror}\n"))
        sys.stderr.write("next: octopoid doctor looks at disks, locks and permissions\n")
        return 1
    text = "".join(importlib.import_module("traceback").format_exception(error))
    path = _crash_log(text)
    what = f"octopoid: this is a bug in octopoid {__version__}: {type(error).__name__}: {error}\n"
    sys.stderr.write(
        late("legible").clean_text(what + (f"the whole story is in {path}; please report it\n" if path else text))
    )
    return 1


def _crash_log(text: str) -> Path | None:
    """Where the traceback was written, or None where there is no queue, or no room in it."""
    try:
        path: Path = late("cli.speak").layout(any_format=True).run / "crash.log"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        story = f"octopoid {__version__}\n{sys.argv}\n{text}".encode("utf-8", "backslashreplace")
        late("durable").write(path, story, sync=False)
    except (OctopoidError, OSError):
        return None
    return path
