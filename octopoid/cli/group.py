"""The parser: global options, and commands whose modules are loaded when they are called."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from octopoid import __version__
from octopoid.cli import common
from octopoid.cli.app import COMMANDS, PANELS, late
from octopoid.hints import nearest


class Color(StrEnum):
    """When to use colours."""

    auto = "auto"
    always = "always"
    never = "never"


# `Any` where the base class has types of typer's private copy of click.
class Lazy(TyperGroup):
    """The commands of the table. Listing them, for help and completion, loads none of them."""

    listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """The names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is typer's
        """The command, loaded now; None for a name that is not in the table."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        if self.listing:
            return TyperCommand(cmd_name, help=row.help)
        module = late(f"cli.{row.module}")
        command = typer.main.get_command(getattr(module, row.attribute))
        command.name = cmd_name
        _plain(command)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, with the nearest name for a wrong one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = nearest(args[0], COMMANDS)
            ctx.fail(f"no such command: {args[0]}" + (f"; {hint}" if hint.startswith("did") else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is typer's
        """The help, by panels."""
        for panel in PANELS:
            with formatter.section(panel):
                formatter.write_dl([(name, row.help) for name, row in COMMANDS.items() if row.panel == panel])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names and their help, without loading any."""
        self.listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.listing = False


def _plain(command: Any) -> None:
    """Help as plain text, which rich would take 100 ms to draw; completion is set up for the whole program only."""
    command.rich_markup_mode = None
    command.params = [one for one in command.params if one.name not in ("install_completion", "show_completion")]
    for one in getattr(command, "commands", {}).values():
        _plain(one)


app = typer.Typer(
    cls=Lazy,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=common.examples("octopoid init", 'octopoid enqueue "Add dark mode"', "octopoid run", "octopoid"),
)


def _version(wanted: bool) -> None:
    if wanted:
        common.out(f"octopoid {__version__}")
        raise typer.Exit


@app.callback()
def octopoid(
    context: typer.Context,
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="The repository to work on. Default: the one you are in.")
    ] = "",
    color: Annotated[Color, typer.Option("--color", help="Colours on the terminal.")] = Color.auto,
    version: Annotated[  # noqa: ARG001 - typer calls `_version`
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A folder of markdown task files becomes verified, merged commits.

    Without a command: status.
    """
    common.choose(root, color.value)
    if context.invoked_subcommand is None:
        command = context.command.get_command(context, "status")  # type: ignore[attr-defined]  # it is a Lazy
        with command.make_context("status", [], parent=context) as inner:
            command.invoke(inner)


def run(argv: list[str]) -> int:
    """Parse and run; the exit code. Usage errors are told here, OctopoidError goes on to the caller."""
    try:
        typer.main.get_command(app).main(argv, prog_name="octopoid")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def helps() -> dict[str, str]:
    """The help of every command by its path (`octopoid config check`), for docs/cli.md. Loads them all."""
    found: dict[str, str] = {}

    def collect(command: Any, path: str, parent: Any) -> None:
        with command.make_context(path, [], parent=parent, resilient_parsing=True) as context:
            context.info_name = path if parent is None else path.rpartition(" ")[2]
            found[path] = command.get_help(context)
            names = command.list_commands(context) if hasattr(command, "list_commands") else ()
            for name in names:
                collect(command.get_command(context, name), f"{path} {name}", context)

    collect(typer.main.get_command(app), "octopoid", None)
    return found
