"""What an agent wrote into its own entry in other people's names: put right when nobody is left who could write there.

An agent can reach the folder of its own attempt; its result and its documents go there. Nothing else that it puts there
may be taken for somebody else's word: an outcome before the scheduler's, the mark of a move, another beginning ("a
person approves"), another process in `pid` that would then be ended. What stands there is set aside, never removed.
"""

# The supervisor of every attempt loads this:
# ruff: noqa: PTH104, PTH118
from __future__ import annotations

import os

from octopoid import durable, regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OPENING = "attempt.json"
# what only the scheduler writes into an entry, and only when its supervisor has left; and the supervisor's last word
_LATER = ("exit.json", "outcome.json", "said.json", "children.json", "spawned", "waits")
_MOVED = "moved-"


class Entry:
    """The folder of an entry as it is before anything is started in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names = frozenset(os.listdir(folder))
        self.opening = regular.read(os.path.join(folder, OPENING)) if OPENING in self.names else None

    def put_right(self, say: Callable[[str], None]) -> None:
        """Set aside what is not an agent's to write, and write the beginning again. Raises OSError."""
        for name in os.listdir(self.folder):
            if name not in self.names and (name in _LATER or name.startswith(_MOVED)):
                self._set_aside(name, say)
        if self.opening is not None and not self._is_kept():
            self._set_aside(OPENING, say)
            durable.write(os.path.join(self.folder, OPENING), self.opening)

    def _is_kept(self) -> bool:
        try:
            return regular.read(os.path.join(self.folder, OPENING)) == self.opening
        except OSError:
            return False

    def _set_aside(self, name: str, say: Callable[[str], None]) -> None:
        path = os.path.join(self.folder, name)
        if os.path.lexists(path):
            os.rename(path, os.path.join(self.folder, f".foreign-{os.urandom(4).hex()}-{name}"))
        say(f"octopoid: {name} is not for an agent to write; it is set aside")
