"""The person's editor, on a draft that lies outside the queue: what is half written is nobody's task."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from octopoid import durable, process
from octopoid.errors import OctopoidError, UsageError
from octopoid.layout import Layout

_FALLBACKS = ("sensible-editor", "nano", "vi")


def write_draft(layout: Layout, task: str, data: bytes) -> Path:
    """A file for the editor; it stays when something goes wrong, so that nothing a person wrote is lost."""
    folder = layout.drafts
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{task}-{secrets.token_hex(3)}.md"
    durable.write(path, data)
    return path


def edit(path: Path, env: Mapping[str, str]) -> bytes:
    """Open `path` in $VISUAL or $EDITOR, wait for it to end, and return what the file says then.

    Raises UsageError when there is no editor, OctopoidError when it failed.
    """
    argv = [*_editor(env), str(path)]
    # Ctrl-C in the editor is the editor's; a person may have redirected our stdout: then it draws on stderr
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        output = 1 if sys.stdout.isatty() else 2
        pid = process.start(argv, env=env, stdin=_keyboard(), output=output, new_session=False)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError as error:
        raise OctopoidError(f"the editor `{argv[0]}` cannot be started: {error.strerror}", "set EDITOR") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        raise OctopoidError(f"the editor ended with status {status}; nothing was changed", f"your text is in {path}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise OctopoidError(f"the editor removed {path}; nothing was changed") from None


def _editor(env: Mapping[str, str]) -> list[str]:
    said = env.get("VISUAL") or env.get("EDITOR") or ""
    if said.strip():
        try:
            return shlex.split(said)
        except ValueError as error:
            raise UsageError(f"EDITOR cannot be read: {error}", "check its quotes") from None
    found = next((one for one in _FALLBACKS if shutil.which(one)), "")
    if not found or not sys.stderr.isatty():
        raise UsageError("there is no editor", "set VISUAL or EDITOR, such as: export EDITOR=vim")
    return [found]


def _keyboard() -> str:
    """What the editor reads from: our stdin, else the terminal."""
    for path in ("/dev/stdin", "/dev/tty"):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
        return path
    return os.devnull
