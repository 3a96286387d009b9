"""`octopoid enqueue`: a new task. stdout is its id; when that is printed the task survives a power cut."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from octopoid import gitfiles, store
from octopoid.cli import adding, common
from octopoid.cli.adding import Source, Wish
from octopoid.cli.app import late
from octopoid.errors import Conflict, NotFound, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.states import State
from octopoid.taskhead import PRIORITIES

cli = typer.Typer()

STDIN = "-"
_PACKAGE = Path(__file__).parent.parent
_DEFAULT, _PROJECT_FLOW = "default", "project"
_PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@cli.command(
    epilog=common.examples(
        'octopoid enqueue "Add dark mode" --priority P1 --label ui',
        'octopoid enqueue "Use the new API" -b "See docs/api.md" --after add-login',
        'octopoid enqueue "Fix the build" - < build.log',
        "octopoid enqueue -f idea.md          # a whole task file, with or without front matter",
        'octopoid enqueue --template bug "Login fails with an empty password" -b "See the log of Monday"',
        'octopoid enqueue "Show the balance" --project billing',
        'id=$(octopoid enqueue "Tidy up")',
    )
)
def enqueue(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done, in a few words.")] = "",
    dash: Annotated[str, typer.Argument(metavar="[-]", help="`-`: the text comes from standard input.")] = "",
    body: Annotated[str, typer.Option("-b", "--body", metavar="TEXT", help="The text below the title.")] = "",
    file: Annotated[
        str,
        typer.Option("-f", "--file", metavar="FILE", help="The text; without a TITLE a whole task file. `-`: stdin."),
    ] = "",
    priority: Annotated[
        str, typer.Option("--priority", metavar="P0…P3", help="P0 is the most urgent; P2 if not given.")
    ] = "",
    role: Annotated[str, typer.Option("--role", metavar="NAME", help="The role that works on it.")] = "",
    flow: Annotated[str, typer.Option("--flow", metavar="NAME", help="The stages and gates it goes through.")] = "",
    after: Annotated[
        list[str],
        typer.Option("--after", metavar="ID", help="Wait for this task.", autocompletion=common.complete_ids),
    ] = [],  # noqa: B006 - typer's "none given"
    labels: Annotated[list[str], typer.Option("--label", metavar="WORD", help="For `list --label`.")] = [],  # noqa: B006 - as above
    base: Annotated[str, typer.Option("--base", metavar="BRANCH", help="Start from and land on this branch.")] = "",
    project: Annotated[
        str, typer.Option("--project", metavar="NAME", help="It lands with the other tasks of this project.")
    ] = "",
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="Begin from a template: bug, feature, chore, …")
    ] = "",
    edit: Annotated[bool, typer.Option("--edit", help="Open it in $VISUAL or $EDITOR first.")] = False,
    as_json: common.Json = False,
) -> None:
    """Add a task and print its id.

    TITLE with -b, -f or - below it; or -f FILE alone: a task file as it is, with front matter or without. Options make
    front matter, so a file that has its own takes none. Of a template the title and the options replace its own, the
    text stands above its own, and labels and dependencies are added to its own.
    """
    layout = common.layout()
    title, source = _inputs(title, dash, body, file)
    if not (title or source or edit or template):
        raise UsageError("what is to be done?", 'octopoid enqueue "Add dark mode", or -f FILE, or --edit')
    wish = _wish(layout, priority, role, flow, base, project)
    wish = wish._replace(depends_on=_dependencies(layout, after), labels=tuple(dict.fromkeys(labels)))
    if template:
        data, name = adding.filled(layout, template, title, source, wish)
    else:
        data, name = adding.compose(title, source, wish, edit)
    if edit:
        data, name = adding.edited(layout, data, title)
    task, path = adding.add(layout, data, name)
    if as_json:
        common.emit("enqueue", task=adding.plain(layout, task, path))
    else:
        adding.tell(layout, task)


def _inputs(title: str, dash: str, body: str, file: str) -> tuple[str, Source | None]:
    """The title and the one text that was given. Standard input is read only where a `-` says so."""
    if title == STDIN and not dash:
        title, dash = "", STDIN
    if dash not in ("", STDIN):
        raise UsageError(f"what is `{dash}`?", "put the title in quotes; a text comes with -b, -f or -")
    given = [one for one in (dash, file) if one] + ([body] if body else [])
    if len(given) > 1:
        raise UsageError("-b, -f and - all give the text", "give one of them")
    if dash or file:
        return title, _read(STDIN if dash else file)
    return title, Source(body.encode("utf-8", "surrogateescape"), Path("-b")) if body else None


def _read(name: str) -> Source:
    path = adding.STDIN_NAME if name == STDIN else Path(name)
    try:
        if name == STDIN:
            if sys.stdin.isatty():
                common.say("the text, ended by Ctrl-D:")
            data = sys.stdin.buffer.read(store.MAX_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(store.MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    if len(data) > store.MAX_BYTES:
        raise UsageError(f"{path} is larger than {store.MAX_BYTES >> 20} MiB", "let the task name the file instead")
    return Source(data, path)


# --- the options ---


def _wish(layout: Layout, priority: str, role: str, flow: str, base: str, project: str) -> Wish:
    """The options, each checked against what there is: a typo here would be an invalid task later."""
    if priority and priority.upper() not in PRIORITIES:
        raise UsageError(f"`{priority}` is not a priority", "P0 (most urgent), P1, P2 (the default) or P3")
    if role:
        _must_be("role", role, _roles(layout, role), "a role is a file, .octopoid/roles/NAME.md")
    if flow:
        known = (_DEFAULT, *_files(layout.flows, ".yaml"), *_files(_PACKAGE / "flows", ".yaml"))
        _must_be("flow", flow, known, "a flow is a file, .octopoid/flows/NAME.yaml")
    if flow == _PROJECT_FLOW:
        raise UsageError(
            "the flow `project` is for the landing of a project", "octopoid project land NAME makes that task"
        )
    if base:
        _must_be_branch(layout, base)
    if base and project:
        raise UsageError("a task of a project lands on the branch of the project", "give --base or --project")
    if project and not _PROJECT.fullmatch(project):
        raise UsageError(f"`{project}` is not the name of a project", "lower-case letters, digits and `-`, at most 64")
    return Wish(
        priority=PRIORITIES.index(priority.upper()) if priority else None,
        role=role or None,
        flow=flow or None,
        base=base or None,
        project=project or None,
    )


def _must_be(kind: str, word: str, known: tuple[str, ...], otherwise: str) -> None:
    if word not in known:
        hint = nearest(word, known)
        raise NotFound(f"there is no {kind} `{word}`", "; ".join(one for one in (hint, otherwise) if one))


def _roles(layout: Layout, wanted: str) -> tuple[str, ...]:
    """Role files by name alone: a policy that is being edited does not keep a person from adding a task."""
    names = (*_files(layout.roles, ".md"), *_files(_PACKAGE / "roles", ".md"))
    if wanted in names or not layout.claude_agents.is_dir():
        return names
    return (*names, *late("rolefiles").claude_agents(layout.claude_agents))  # their files say what they are called


def _files(folder: Path, ending: str) -> tuple[str, ...]:
    found = (name for name in store.durable_names(folder) if name.endswith(ending) and name[0] not in ".#")
    return tuple(sorted(name.removesuffix(ending) for name in found))


def _must_be_branch(layout: Layout, base: str) -> None:
    """The branch exists: files say so, without a git process. Where there are none (reftable) the tick finds out."""
    common_dir, ref = gitfiles.common_dir(layout.root), gitfiles.head_ref(base)
    if gitfiles.line(common_dir / ref) or gitfiles.packed(common_dir, ref) or (common_dir / "reftable").is_dir():
        return
    raise NotFound(f"there is no branch `{base}`", f"make it with: git branch {base}")


def _dependencies(layout: Layout, words: list[str]) -> tuple[str, ...]:
    ids = common.resolve(layout, words) if words else []
    for one in ids:
        found = store.find(layout, one)
        if found is not None and found[0] is State.CANCELLED:
            raise Conflict(f"{one} was cancelled, so a task after it would never start", "leave it out")
    return tuple(ids)
