"""How a program is started that runs an agent's code and is shut in. Pure: which paths there are says `sandboxing`.

The whole file system is there and read-only. On top of it, in this order, so that the later wins: /tmp and /run of its
own, a home of its own (its folders are the user's, read-only; new files vanish with the program), the named caches, the
repository, the git directory as `View` has it, the task's entry, the worktree. What is secret is hidden last.
"""

# A runner loads this when a step is shut in: no typing, no pathlib.
# ruff: noqa: PTH118, PTH120
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

SECRETS = (
    *(".ssh", ".gnupg", ".aws", ".azure", ".config/gcloud", ".kube", ".docker", ".config/containers", ".terraform.d"),
    *(
        ".netrc",
        "_netrc",
        ".git-credentials",
        ".config/git/credentials",
        ".config/gh",
        ".config/glab-cli",
        ".config/hub",
    ),
    *(
        ".npmrc",
        ".yarnrc.yml",
        ".pypirc",
        ".config/pip",
        ".cargo/credentials",
        ".cargo/credentials.toml",
        ".gem/credentials",
    ),
    *(".m2/settings.xml", ".gradle/gradle.properties", ".composer/auth.json", ".pgpass", ".my.cnf", ".vault-token"),
    *(
        ".password-store",
        ".local/share/keyrings",
        ".local/share/kwalletd",
        ".1password",
        ".config/op",
        ".config/1Password",
    ),
    *(
        ".mozilla",
        ".thunderbird",
        ".config/google-chrome",
        ".config/chromium",
        ".config/BraveSoftware",
        ".config/vivaldi",
    ),
    *(".config/microsoft-edge", ".config/opera", ".config/Slack", ".config/discord", ".config/Signal", "snap"),
    *(".bash_history", ".zsh_history", ".python_history", ".node_repl_history", ".local/share/fish", ".psql_history"),
    *("Library/Keychains", "Library/Cookies", "Library/Mail", "Library/Messages", "Library/Application Support/Google"),
    *("Library/Application Support/Firefox", "Library/Safari"),
)
"""Below HOME: what no agent has any business with. `read:` names exceptions."""

OF_GIT = (".ssh", ".netrc", "_netrc", ".git-credentials", ".config/git/credentials", ".config/gh", ".config/glab-cli")
"""Those of them that `git_credentials: true` shows."""

OBJECTS = "/run/octopoid/objects"
"""Where the repository's objects are inside; in their own place is a store of the task's own, which leads here."""

_OF_RUN = (
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
    "/run/current-system",
    "/run/nscd",
)
"""Of /run: what names of computers are looked up with, and where NixOS has its programs. No bus, no docker."""

_ULIMITS = (("memory", "d", 1024), ("file_size", "f", 512), ("files", "n", 1), ("cpu", "t", 1))
"""Limit, its letter for `ulimit`, and its unit (POSIX; `sh` everywhere).

`-d` and not `-v`: what node, Go and Java reserve and never use would count there, and they would not start.
"""


class View:
    """What there is on this machine, and where the task's own things are. Everything absolute.

    `mine`: a folder of the step's own, in which `tmp`, `home` and `entry` are. `git`: the task's own state of git
    (`gitdir objects refs logs`), "" = the repository's is read-only. `needed`: what a private /tmp would cover and must
    be there. `kept`: of HOME, what programs write and what must be there next time. `there`: which of what is to be
    hidden is there; folders also with a slash. `children`: what of HOME is seen as it is.
    """

    def __init__(self, said: Mapping[str, Any], there: Iterable[str] = (), children: Sequence[str] = ()) -> None:
        self.root: str = said["root"]
        self.home: str = said["home"]
        self.worktree: str = said["worktree"]
        self.worktrees: str = said["worktrees"]
        self.entry: str = said["entry"]
        self.mine: str = said.get("mine", "")
        self.common: str = said.get("common", "")
        self.gitdir: str = said.get("gitdir", "")
        self.git: str = said.get("git", "")
        self.needed: Sequence[str] = said.get("needed", ())
        self.kept: Sequence[str] = said.get("kept", ())
        self.there = frozenset(there)
        self.children = tuple(children)


def hidden(box: Mapping[str, Any], home: str) -> list[str]:
    """Absolute paths that are not seen."""
    shown = {at_home(path, home) for path in (*box["read"], *box["write"])}
    if box.get("git_credentials"):
        shown |= {os.path.join(home, path) for path in OF_GIT}
    wanted = [os.path.join(home, path) for path in SECRETS] + [at_home(path, home) for path in box["hide"]]
    return [path for path in dict.fromkeys(wanted) if path not in shown]


def at_home(path: str, home: str) -> str:
    """`path` with `~/` as HOME, without a slash at its end."""
    return (os.path.join(home, path[2:]) if path.startswith("~/") else path).rstrip("/") or "/"


def limited(argv: Sequence[str], box: Mapping[str, Any]) -> list[str]:
    """`argv` with its limits, by the shell that every system has."""
    lines = [f"ulimit -{letter} {int(box[name]) // unit}" for name, letter, unit in _ULIMITS if box[name]]
    if box["processes"]:  # bash and zsh say -u, dash and busybox -p
        lines.append(f"{{ ulimit -u {box['processes']} 2>/dev/null || ulimit -p {box['processes']}; }}")
    return ["/bin/sh", "-c", " && ".join((*lines, 'exec "$@"')), "sh", *argv] if lines else list(argv)


# --- Linux -------------------------------------------------------------------------------------------------------

ALONE = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_FIRST = ("--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")


def bwrap(program: str, box: Mapping[str, Any], view: View, status: int) -> list[str]:
    """The words in front of a program that bubblewrap shuts in. `status`: the descriptor that hears how it went."""
    words = [program, "--json-status-fd", str(status), *ALONE, *(() if box["network"] else ("--unshare-net",)), *_FIRST]
    words += _own_places(view)
    words += _home(box, view)
    for path in (*view.needed, *(at_home(one, view.home) for one in box["read"])):
        words += ["--ro-bind-try", path, path]
    for path in box["write"]:
        words += ["--bind-try", *[at_home(path, view.home)] * 2]
    words += ["--ro-bind", view.root, view.root, *_git(view), *_task(view)]
    for path in hidden(box, view.home):
        words += _hide(path, view)
    for path in ("/run", os.path.dirname(os.path.dirname(view.entry)), *_siblings(view)):
        words += ["--remount-ro", path]  # they are memory, which nobody shall fill
    return [*words, "--unsetenv", "XDG_RUNTIME_DIR", "--chdir", view.worktree, "--"]


def _own_places(view: View) -> list[str]:
    """/run without the sockets that are there, /tmp on the disk: what is in memory would have no limit."""
    words = ["--tmpfs", "/run"]
    for path in _OF_RUN:
        words += ["--ro-bind-try", path, path]
    tmp = os.path.join(view.mine, "tmp")
    return [*words, "--bind", tmp, "/tmp", "--bind", tmp, "/var/tmp"]  # noqa: S108 - inside they are its own


def _home(box: Mapping[str, Any], view: View) -> list[str]:
    """A home whose folders are the user's, read-only. What its programs make of their own there is kept or vanishes."""
    if view.home == "/":
        return []
    out = set(hidden(box, view.home))
    words = ["--bind", os.path.join(view.mine, "home"), view.home]
    for path in view.children:
        words += [] if path in out else ["--ro-bind-try", path, path]
    for path in view.kept:
        words += ["--bind-try", path, path]
    return words


def _git(view: View) -> list[str]:
    if not view.git:
        return []
    own = {name: os.path.join(view.git, name) for name in ("gitdir", "objects", "refs", "logs")}
    at = {name: os.path.join(view.common, name) for name in own}
    words = ["--ro-bind", at["objects"], OBJECTS]
    for name in ("objects", "refs", "logs"):
        words += ["--bind", own[name], at[name]]
    lfs = os.path.join(view.common, "lfs")
    words += ["--bind", lfs, lfs] if lfs in view.there else []
    return [*words, "--bind", own["gitdir"], view.gitdir]


def _task(view: View) -> list[str]:
    """Of all tasks' things this one's alone, of its entry what an agent has to do with."""
    entries, entry = os.path.dirname(view.entry), view.entry
    words = ["--tmpfs", os.path.dirname(entries), "--ro-bind", entries, entries]
    words += ["--bind", os.path.join(view.mine, "entry"), entry]
    for name in ("task.md", "prompt.md"):
        path = os.path.join(entry, name)
        words += ["--ro-bind-try", path, path]
    for name in ("artifacts", "said", "output.log"):
        path = os.path.join(entry, name)
        words += ["--bind-try", path, path]
    for path in _siblings(view):
        words += ["--tmpfs", path]
    words += ["--bind", view.worktree, view.worktree]
    link = os.path.join(view.worktree, ".git")
    return [*words, "--ro-bind-try", link, link]


def _siblings(view: View) -> list[str]:
    """The folder of all worktrees, unless that holds the repository itself."""
    return [] if (view.root + "/").startswith(view.worktrees + "/") else [view.worktrees]


def _hide(path: str, view: View) -> list[str]:
    if path + "/" in view.there:
        return ["--tmpfs", path, "--remount-ro", path]
    return ["--ro-bind", "/dev/null", path] if path in view.there else []


# --- macOS -------------------------------------------------------------------------------------------------------

_PROFILE = """\
(version 1)
(allow default)
{network}(deny file-write*)
(allow file-write* (subpath "/dev"))
(deny file-read* {secret})
(deny file-read* file-write* {others})
(allow file-write* {writable})
(deny file-write* {kept})
(allow file-read* {entry})
"""


def profile(box: Mapping[str, Any], view: View) -> str:
    """The text that `sandbox-exec -p` takes. The last rule that fits counts.

    It has no mounts: git's objects are written in place, and only names can be forbidden, so the evidence is.
    """
    home, entry = view.home, view.entry
    writable = [view.worktree, view.gitdir, os.path.join(view.common, "objects"), os.path.join(view.mine, "tmp"), entry]
    writable += [*view.kept, *(at_home(path, home) for path in box["write"])]
    evidence = ("attempt", "steps", "exit", "outcome", "facts", "start", "children", "said", "sandbox")
    kept = [f'(literal "{_quoted(os.path.join(entry, name + ".json"))}")' for name in evidence]
    kept += [
        f'(literal "{_quoted(os.path.join(entry, name))}")' for name in ("lock", "pid", "waits", "spawned", "stop")
    ]
    kept += [f'(literal "{_quoted(os.path.join(view.worktree, ".git"))}")']
    kept += [f'(literal "{_quoted(os.path.join(view.gitdir, n))}")' for n in ("commondir", "gitdir", "config.worktree")]
    kept += [f'(regex #"^{_quoted(_regex(entry))}/moved-")']
    entries = os.path.dirname(entry)
    return _PROFILE.format(
        network="" if box["network"] else '(deny network*)\n(allow network* (local ip "localhost:*"))\n',
        secret=_paths(hidden(box, home)),
        others=_paths([os.path.dirname(entries), view.worktrees]),
        writable=_paths(path for path in writable if path),
        kept=" ".join(kept),
        entry=_paths([entries, view.worktree]),
    )


def _paths(paths: Iterable[str]) -> str:
    return " ".join(f'(subpath "{_quoted(path)}")' for path in paths)


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')


def _regex(path: str) -> str:
    return "".join(f"\\{char}" if char in r"\.+*?[](){}|^$" else char for char in path)
