"""The scripted agent: a program that follows a script instead of a model (docs/scripted-agent.md).

It stands for a foreign program, so it speaks to the system itself: git, processes, signals. It starts at every attempt
of the demo and the tests: no `typing`, `subprocess` or `pathlib` here, and YAML only where the script is YAML.
"""

# pathlib would cost this program a third of its start:
# ruff: noqa: PTH103, PTH105, PTH108, PTH117, PTH120, PTH123, PTH206

from __future__ import annotations

import json
import os
import signal
import sys
import time
from importlib import import_module

from octopoid.errors import Invalid
from octopoid.hints import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any, NoReturn

BROKEN = 2
"""The exit status that says: the script itself is wrong. `exit` cannot ask for it."""
ANY = "default"
_PATIENCE = 60.0
_ORPHAN_LIFE = 600.0


class Broken(Invalid):
    """The script, or the way it was started, cannot be followed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, (), hint)


def main() -> NoReturn:
    """`scripted_agent SCRIPT`: follow SCRIPT for the task, role and attempt that the environment names."""
    sys.exit(follow(sys.argv[1:], os.environ))


def follow(arguments: list[str], env: Mapping[str, str]) -> int:
    """Do the actions that are meant for this attempt; the exit status. Works in the current folder."""
    try:
        if len(arguments) != 1:
            raise Broken(f"expected one argument, the script, and got {len(arguments)}")
        tasks = load(arguments[0])
        for action in choose(tasks, env):
            name, value = _parts(action)
            _ACTIONS[name][1](_expand(value, env) if name != "run" else value, env)
    except Broken as error:
        hint = f" ({error.hint})" if error.hint else ""
        _put(2, f"scripted agent: {' '.join(arguments[:1])}: {error.message}{hint}\n")
        return BROKEN
    return 0


def load(script: str) -> dict[str, Any]:
    """The `tasks` of a script file, all of it checked. Raises Broken naming the place and the nearest right word."""
    content = _read(script)
    _check_keys(content, ("tasks",), "the script")
    tasks = content.get("tasks")
    _mapping(tasks, "tasks")
    for task, roles in tasks.items():
        _mapping(roles, f"tasks.{task}")
        for role, attempts in roles.items():
            place = f"tasks.{task}.{role}"
            if not _is_list(attempts) or not attempts or not all(map(_is_list, attempts)):
                raise Broken(f"{place} must be a list of attempts, each a list of actions")
            for i, actions in enumerate(attempts):
                for j, action in enumerate(actions):
                    _check_action(action, f"{place}[{i}][{j}]")
    return dict(tasks)


def choose(tasks: Mapping[str, Any], env: Mapping[str, str]) -> list[Any]:
    """The actions for `OCTOPOID_TASK_ID`, `OCTOPOID_ROLE`, `OCTOPOID_ATTEMPT`; the last attempt in a list repeats."""
    task, role = env.get("OCTOPOID_TASK_ID", ""), env.get("OCTOPOID_ROLE", "implementer")
    number = env.get("OCTOPOID_ATTEMPT", "1")
    if not task or not number.isdecimal():
        raise Broken("OCTOPOID_TASK_ID must be set, and OCTOPOID_ATTEMPT a number", "to try a script by hand, set them")
    named = [key for key in tasks if key != ANY and (task == key or task.startswith(f"{key}-"))]
    for key in (*sorted(named, key=len, reverse=True)[:1], ANY):
        for who in (role, ANY):
            attempts = tasks.get(key, {}).get(who)
            if attempts:
                return list(attempts[min(max(int(number), 1), len(attempts)) - 1])
    raise Broken(f"nothing to do for task {task}, role {role}", f"add `tasks.{ANY}.{role}`")


def _read(script: str) -> Any:
    try:
        with open(script, encoding="utf-8-sig") as file:
            text = file.read()
        return json.loads(text) if script.endswith(".json") else _yaml(text, script)
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Broken(f"is not JSON: {error}") from None


def _yaml(text: str, script: str) -> Any:
    path: type[Path] = import_module("pathlib").Path
    try:
        return _plain(import_module("octopoid.yamltext").load(text, path(script)))
    except Invalid as error:
        first = error.problems[0]
        raise Broken(f"line {first.line}: {first.message}", first.hint) from None


def _plain(node: Any) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    return [_plain(one) for one in node.value] if isinstance(node.value, list) else node.value


# --- what a script may say ---------------------------------------------------------------------------------------


def _parts(action: Any) -> tuple[str, Any]:
    if isinstance(action, str):
        return action, None
    ((name, value),) = action.items()
    return name, value


def _check_action(action: Any, place: str) -> None:
    if not isinstance(action, str) and not (isinstance(action, dict) and len(action) == 1):
        raise Broken(f"{place} must be one action, such as {{say: hello}}")
    name, value = _parts(action)
    if name not in _ACTIONS:
        raise Broken(f"{place}: unknown action `{name}`", nearest(name, _ACTIONS))
    wanted = _ACTIONS[name][0]
    if isinstance(wanted, tuple):
        _mapping(value, f"{place}.{name}")
        _check_keys(value, wanted, f"{place}.{name}")
        missing = [key for key in wanted if not isinstance(value.get(key), str)]
        if missing:
            raise Broken(f"{place}.{name}: `{missing[0]}` must be given, as text")
    elif not wanted(value):
        raise Broken(f"{place}: `{name}` takes {(wanted.__doc__ or '').rstrip('.')}")


def _check_keys(value: Any, known: Iterable[str], place: str) -> None:
    _mapping(value, place)
    for key in value:
        if key not in known:
            raise Broken(f"unknown key `{key}` in {place}", nearest(key, known))


def _mapping(value: Any, place: str) -> None:
    if not isinstance(value, dict) or not value:
        raise Broken(f"{place} must be a mapping with something in it")


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_nothing(value: Any) -> bool:
    """no value."""
    return value is None or value is True


def _is_text(value: Any) -> bool:
    """text."""
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    """text or a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _is_amount(value: Any) -> bool:
    """a number from 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_status(value: Any) -> bool:
    """a status from 0 to 255 (but 2, which says that the script is broken)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255 and value != BROKEN


def _is_result(value: Any) -> bool:
    """a mapping, or the text of the result file as it is to stand there."""
    return isinstance(value, dict | str)


def _expand(value: Any, env: Mapping[str, str]) -> Any:
    """`value` with `${OCTOPOID_…}` replaced; an unknown name is refused."""
    if isinstance(value, dict):
        return {key: _expand(one, env) for key, one in value.items()}
    if isinstance(value, list):
        return [_expand(one, env) for one in value]
    if not isinstance(value, str) or "${OCTOPOID_" not in value:
        return value
    head, *pieces = value.split("${OCTOPOID_")
    for piece in pieces:
        name, closed, rest = piece.partition("}")
        if not closed or f"OCTOPOID_{name}" not in env:
            raise Broken(f"${{OCTOPOID_{name}}} is not in the environment")
        head += env[f"OCTOPOID_{name}"] + rest
    return head


# --- the actions -------------------------------------------------------------------------------------------------


def _put(fd: int, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(fd, data) :]


def _give_up(message: str, status: int = 1) -> NoReturn:
    _put(2, f"{message}\n")
    sys.exit(status)


def _inside(path: str) -> str:
    path = os.path.normpath(path)
    if os.path.isabs(path) or path.split(os.sep)[0] in ("..", ".", ".git"):
        raise Broken(f"{path}: a path must lead to a file inside the worktree", "`run` can do anything")
    return path


def _store(path: str, text: str, mode: str = "w") -> None:
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(path, mode, encoding="utf-8", newline="") as file:
        file.write(text)


def _write(value: dict[str, str], _: Mapping[str, str]) -> None:
    _store(_inside(value["path"]), value["text"])


def _append(value: dict[str, str], _: Mapping[str, str]) -> None:
    _store(_inside(value["path"]), value["text"], "a")


def _replace(value: dict[str, str], _: Mapping[str, str]) -> None:
    path = _inside(value["path"])
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        _give_up(f"replace: {path}: {error.strerror}")
    if value["old"] not in text:
        _give_up(f"replace: {path} does not contain {value['old']!r}")
    _store(path, text.replace(value["old"], value["new"], 1))


def _delete(value: str, _: Mapping[str, str]) -> None:
    try:
        os.unlink(_inside(value))
    except OSError as error:
        _give_up(f"delete: {value}: {error.strerror}")


def _run(value: str | list[str], env: Mapping[str, str]) -> None:
    argv = ["sh", "-c", value] if isinstance(value, str) else _expand(value, env)
    try:
        pid = os.posix_spawnp(argv[0], argv, dict(env))
    except OSError as error:
        _give_up(f"run: {argv[0]}: {error.strerror}")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        _give_up(f"run: {argv[0]} ended with {status}")


def _commit(value: str, env: Mapping[str, str]) -> None:
    _run(["git", "add", "-A"], env)
    _run(["git", "commit", "-q", "-m", value], env)
    _put(1, f"committed: {value}\n")


def _result(value: Any, env: Mapping[str, str]) -> None:
    target = env.get("OCTOPOID_RESULT_FILE", "")
    if not target:
        raise Broken("OCTOPOID_RESULT_FILE is not set")
    _store(f"{target}.part", value if isinstance(value, str) else json.dumps(value))
    os.replace(f"{target}.part", target)


def _question(value: str | list[str], env: Mapping[str, str]) -> NoReturn:
    _result({"outcome": "question", "questions": [value] if isinstance(value, str) else value}, env)
    sys.exit(0)


def _env(value: str | list[str], env: Mapping[str, str]) -> None:
    for name in [value] if isinstance(value, str) else value:
        _put(1, f"{name}={env[name]}\n" if name in env else f"{name} is not set\n")


def _wait_for(value: str, _: Mapping[str, str]) -> None:
    until = time.monotonic() + _PATIENCE
    while not os.path.lexists(value):
        if time.monotonic() > until:
            _give_up(f"wait_for: {value} did not appear in {_PATIENCE:g} s")
        time.sleep(0.01)


def _hang(*_: object) -> NoReturn:
    while True:
        time.sleep(3600)


def _spawn_orphan(*_: object) -> None:
    """A grandchild in a session of its own, as agents' tools leave them behind (LESSONS 18)."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    orphan = os.fork()
    if orphan:
        _put(1, f"orphan {orphan}\n")
    else:
        time.sleep(_ORPHAN_LIFE)
    os._exit(0)


def _spew(value: float, _: Mapping[str, str]) -> None:
    left, line = int(value), "all work and no play makes an agent a dull program ............................\n"
    block = line * 800
    while left > 0:
        _put(1, block[:left])
        left -= len(block)


_ACTIONS: dict[str, tuple[Callable[[Any], bool] | tuple[str, ...], Callable[[Any, Mapping[str, str]], object]]] = {
    "write": (("path", "text"), _write),
    "append": (("path", "text"), _append),
    "replace": (("path", "old", "new"), _replace),
    "delete": (_is_text, _delete),
    "run": (_is_texts, _run),
    "commit": (_is_text, _commit),
    "say": (_is_text, lambda value, _: _put(1, f"{value}\n")),
    "sleep": (_is_amount, lambda value, _: time.sleep(value)),
    "result": (_is_result, _result),
    "accept": (_is_text, lambda value, env: _result({"outcome": "accept", "summary": value}, env)),
    "reject": (_is_text, lambda value, env: _result({"outcome": "reject", "feedback": value}, env)),
    "question": (_is_texts, _question),
    "exit": (_is_status, lambda value, _: sys.exit(value)),
    "fail": (_is_text, lambda value, _: _give_up(value)),
    "env": (_is_texts, _env),
    "touch": (_is_text, lambda value, _: _store(value, "", "a")),
    "wait_for": (_is_text, _wait_for),
    "spew": (_is_amount, _spew),
    "hang": (_is_nothing, _hang),
    "ignore_sigterm": (_is_nothing, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "spawn_orphan": (_is_nothing, _spawn_orphan),
    "crash": (_is_nothing, lambda *_: os.kill(os.getpid(), signal.SIGKILL)),
}

if __name__ == "__main__":
    main()
