"""`octopoid init`: the `.octopoid` folder of a repository. Commits nothing, overwrites nothing, and writes there only,
but for a note for agents in AGENTS.md where a person wants it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from octopoid import agentnote, config, detect, git, gitfiles, setup, trust
from octopoid.adapters import ADAPTERS
from octopoid.cli import common
from octopoid.cli import trust as cli_trust
from octopoid.doctor.policies import is_logged_in
from octopoid.errors import GitError, Invalid, NotFound, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.settings import Agent

cli = typer.Typer()

_NONE = "none"
_COMMAND = "./scripts/agent.sh"
_NOTED = {
    agentnote.Done.ADDED: "added a note for agents, between markers",
    agentnote.Done.REPLACED: "brought the note for agents up to date",
    agentnote.Done.SAME: "its note for agents is up to date",
}


class _Choice(NamedTuple):
    """What agents.yaml will say."""

    base: str
    adapter: str
    checks: tuple[detect.Found, ...]
    command: str = ""


@cli.command(
    epilog=common.examples(
        "octopoid init",
        "octopoid init -y --base develop",
        "octopoid init --adapter command",
        "octopoid init -y --agents-md",
    )
)
def init(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what was detected.")] = False,
    base: Annotated[
        str, typer.Option("--base", metavar="BRANCH", help="Work starts from this branch and lands on it.")
    ] = "",
    adapter: Annotated[
        str, typer.Option("--adapter", metavar="NAME", help=f"The agent program: {', '.join(ADAPTERS)}.")
    ] = "",
    agents_md: Annotated[
        bool, typer.Option("--agents-md", help="Write a note for agents into AGENTS.md, or bring it up to date.")
    ] = False,
) -> None:
    """Make .octopoid/ in this repository: a policy to review, and an empty queue.

    Detects the base branch, agent programs on PATH and the command that tests the project. Writes only below
    .octopoid/, commits nothing, and never changes a file that is there: run it again to restore what is missing.
    With --agents-md, or your yes, AGENTS.md also gets a note, between markers.
    """
    layout = setup.repository(_start(context))
    _check_options(layout, base, adapter)
    tracked = setup.tracked(layout)  # before anything is made: a git that cannot read the repository says so here
    is_new = not layout.agents_yaml.exists()
    complete = setup.is_complete(layout)
    ask = common.interactive() and not yes
    if complete and not agents_md:
        common.out(f"nothing to do: {layout.home} is complete")
    elif not complete:
        choice = _choose(layout, base, adapter, ask) if is_new else None
        agents_md = agents_md or (ask and is_new and _wants_note(layout))
        _make(layout, choice)
    if agents_md:
        _write_note(layout)
    if not is_new:
        _about_kept(layout, base, adapter)
    _trust(layout, ask, tracked)
    _warn(layout)
    if complete:
        common.next_step("octopoid status; octopoid config check reads agents.yaml again after an edit")
    else:
        _next_steps(layout)


def _start(context: typer.Context) -> Path:
    """Where to look for the repository: `--root`, `OCTOPOID_ROOT`, or here. There is no `.octopoid` to find yet."""
    said = context.find_root().params.get("root") or os.environ.get("OCTOPOID_ROOT") or "."
    start = Path(said).absolute()
    if not start.is_dir():
        raise NotFound(f"there is no folder {start}")
    return start


def _check_options(layout: Layout, base: str, adapter: str) -> None:
    if adapter and adapter not in ADAPTERS:
        raise UsageError(f"unknown adapter `{adapter}`", nearest(adapter, ADAPTERS))
    if base:
        gitfiles.head_ref(base)  # refuses what cannot be a branch
        if git.branch_sha(layout.root, base) is None and base != git.default_branch(layout.root):
            raise NotFound(f"there is no branch `{base}`", f"make it with: git branch {base}")


def _choose(layout: Layout, base: str, adapter: str, ask: bool) -> _Choice:
    base = base or _base(layout, ask)
    adapter = adapter or _adapter(ask)
    command = ""
    if ask and adapter == "command":
        command = str(typer.prompt("Command that starts your agent", default=_COMMAND, err=True)).strip()
    return _Choice(base, adapter, _checks(layout, ask), command)


def _base(layout: Layout, ask: bool) -> str:
    found = git.default_branch(layout.root) or ""
    while ask:
        said = str(typer.prompt("Branch that work lands on", default=found or None, err=True)).strip()
        if gitfiles.is_branch_name(said) and (said == found or git.branch_sha(layout.root, said)):
            return said
        common.say(f"there is no branch `{said}`")
    if not found:
        raise UsageError("no branch is checked out (HEAD is detached)", "name the branch: octopoid init --base BRANCH")
    return found


def _adapter(ask: bool) -> str:
    """Claude Code, installed or not: what most people have, and the file says so where it is missing."""
    default = next(iter(_installed()), "claude")
    while ask:
        said = str(typer.prompt(f"Agent ({', '.join(ADAPTERS)})", default=default, err=True)).strip()
        if said in ADAPTERS:
            return said
        common.say(f"unknown adapter `{said}`: {nearest(said, ADAPTERS)}")
    return default


def _checks(layout: Layout, ask: bool) -> tuple[detect.Found, ...]:
    found = detect.checks(layout.root)
    if not ask:
        return found
    kept = []
    for one in found or (detect.Found("tests", _NONE, "", ""),):
        question = f"Command that tests it{f' ({one.because})' if one.because else ''}, or `{_NONE}`"
        said = str(typer.prompt(question, default=one.run, err=True)).strip()
        if said == one.run and said != _NONE:
            kept.append(one)
        elif said != _NONE:
            kept.append(detect.Found(one.name, said, "", ""))
    return tuple(kept)


def _wants_note(layout: Layout) -> bool:
    """A file of the project's own is nobody's to write but with a yes; one that has the note keeps it as it is."""
    if agentnote.is_there(layout.root):
        return False
    return typer.confirm(f"Write a note for agents into {agentnote.NAME}", default=False, err=True)


def _write_note(layout: Layout) -> None:
    path, done = agentnote.write(layout.root)
    common.out(f"{layout.short(path)}: {_NOTED[done]}")
    if done is not agentnote.Done.SAME:
        common.say(f"it is not committed: look at it with git diff {shlex.quote(layout.short(path))}")


def _make(layout: Layout, choice: _Choice | None) -> None:
    """Make what is missing, the policy last: whoever reads meanwhile finds the folders complete."""
    made = [*setup.make_folders(layout)]
    files = [(setup.gitignore(layout), setup.GITIGNORE)]
    if choice:
        files.append((layout.agents_yaml, _policy(choice).encode()))
    written = [path for path, data in files if setup.make_file(path, data)]
    verb = "made" if layout.home in made else "restored, what was missing of"
    common.out(f"{verb} {layout.home}")
    for path in written:
        common.out(f"  {setup.name(layout, path)}")
    if made:
        common.out(f"  {', '.join(f'{setup.name(layout, one)}/' for one in made if one != layout.home)}")
    if choice:
        _about(layout, choice)


def _policy(choice: _Choice) -> str:
    return config.template(
        choice.base,
        [(one.name, one.run) for one in choice.checks],
        choice.adapter,
        command="" if choice.command == _COMMAND else choice.command,
        found=_is_there(choice.adapter),
    )


def _is_there(adapter: str) -> bool:
    program = ADAPTERS[adapter].facts.program
    return not program or shutil.which(program) is not None


def _installed() -> list[str]:
    """The adapters whose programs are on PATH; Claude Code first, then by name."""
    names = sorted(ADAPTERS, key=lambda name: (name != "claude", name))
    return [name for name in names if ADAPTERS[name].facts.program and _is_there(name)]


def _about(layout: Layout, choice: _Choice) -> None:
    """What was detected, and what was not."""
    common.out(f"base branch: {choice.base}")
    facts = ADAPTERS[choice.adapter].facts
    program = facts.program
    if program and _is_there(choice.adapter):
        common.out(f"agent: {choice.adapter} ({shutil.which(program)})")
    elif program:
        common.out(f"agent: {choice.adapter}, but there is no `{program}` on PATH: install it before `octopoid run`")
        if facts.install:
            common.say(f"to install it: {facts.install}")
    else:
        common.out(f"agent: {choice.adapter}")
    if choice.adapter == "command" and not choice.command and not (layout.root / _COMMAND).exists():
        common.say(f"edit `command:` in .octopoid/agents.yaml: it names {_COMMAND} until you say what to run")
    if choice.adapter == "scripted":
        common.say("edit `script:` in .octopoid/agents.yaml: it names scripts/agent.yaml, which you write")
    if not any(key in os.environ for key in facts.keys) and is_logged_in(facts, Agent("", "", ""), os.environ) is False:
        ways = (f"set {facts.keys[0]} where `octopoid run` is started", facts.login)
        common.say(f"no login of it was found here: {', or '.join(way for way in ways if way)}")
    others = [name for name in _installed() if name != choice.adapter]
    if others:
        common.say(f"also on PATH: {', '.join(others)}; several agents may work side by side (docs/agents.md)")
    for one in choice.checks:
        missing = "" if not one.program or shutil.which(one.program) else f"; there is no `{one.program}` on PATH"
        common.out(f"check: {one.run} (because of {one.because}{missing})" if one.because else f"check: {one.run}")
    if not choice.checks:
        common.out("check: none found")
        common.say("nothing but you stands before landing: better add `checks:` to .octopoid/agents.yaml")


def _trust(layout: Layout, ask: bool, tracked: tuple[str, ...]) -> None:
    """What is not in git did not come by a clone: it is the user's own. `-y` is no yes to what somebody else wrote."""
    if trust.is_trusted(layout.root):
        return
    if not tracked or setup.settle_trust(layout, common.now()):
        trust.mark(layout.root, common.now())
        return
    try:
        runs = tuple(cli_trust.everything(layout))
    except Invalid:
        runs = ()
    common.say("the policy in .octopoid came with the repository; nothing of it runs before you say so")
    for one in runs:
        common.say(f"  {one.what}: {one.command}")
    # what git brought besides the policy is for `octopoid trust` to refuse
    if ask and runs and not setup.brought(layout) and typer.confirm("May it run these?", default=False, err=True):
        trust.mark(layout.root, common.now())
        return
    common.say(f"when you have looked at it: {trust.COMMAND}")


def _about_kept(layout: Layout, base: str, adapter: str) -> None:
    """The policy is a person's file by now: say where it differs from what was asked for."""
    try:
        known = config.load(layout.home)
    except Invalid as error:
        common.say(f"warning: {error.message}")
        common.say("  octopoid config check shows all that is wrong")
        return
    if base and base != known.base:
        said = known.base or "not set"
        common.say(f"agents.yaml stays as it is: its base is {said}, not {base}; change it there if you want to")
    used = sorted({agent.adapter for agent in known.agents.values()})
    if adapter and adapter not in used:
        verb = "adapter is" if len(used) == 1 else "adapters are"
        said = f"its {verb} {', '.join(used)}, not {adapter}"
        common.say(f"agents.yaml stays as it is: {said}; change it there if you want to")


def _warn(layout: Layout) -> None:
    if not setup.ignores_itself(layout):
        common.say("warning: .octopoid/.gitignore lets the queue into your commits; add `/*` and `!/agents.yaml` to it")
    base = git.default_branch(layout.root)
    if base and git.branch_sha(layout.root, base) is None:
        common.say(f"warning: {base} has no commit yet: make a first one before `octopoid run`")
    try:
        if git.version() < git.MINIMUM:
            common.say(f"warning: git {'.'.join(map(str, git.version()))} is too old; 2.38 or newer is needed")
        elif git.identity(layout.root) is None:
            common.say(f"warning: {git.NO_IDENTITY}")
    except GitError as error:
        common.say(f"warning: {error.message}")


def _next_steps(layout: Layout) -> None:
    common.say("The queue lives in .octopoid/queue and is not committed: `git clean -fdx` would delete it.")
    at = "" if layout.root == Path.cwd() else f"cd {shlex.quote(str(layout.root))}, "
    common.next_step(
        f'{at}look at .octopoid/agents.yaml, commit .octopoid, then: octopoid enqueue "What is to be done"'
        " && octopoid run"
    )
