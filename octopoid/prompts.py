"""Role template + task + feedback → prompt. Unknown variables are errors; a task's text is data, never template.

What prompts have in common are parts, in `roles/parts/`: every template may include them, also a user's.
jinja2 costs 80 ms to load, so it is loaded when the first prompt is made; readers of the queue never do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from octopoid import curbs
from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Criterion, Feedback, Problem, Task
from octopoid.results import bounded
from octopoid.rolefiles import ANY, part, part_names, source_path
from octopoid.settings import Check, Role

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.runtime import Context

MAX_TEXT = 8 << 10
"""Characters of one piece of feedback, note, question or answer; what is longer loses its middle."""
MAX_DOCUMENT = 16 << 10
"""Characters of one document of an earlier stage; the prompt says where the whole of it is."""
MAX_FEEDBACK = 10
"""Pieces of feedback in one prompt, the newest ones."""

_SECONDS, _MEGABYTES = 2.0, 512
"""What a template may take; ours take 2 ms."""

_NAME = "<role>"  # the file name under which jinja2 compiles; its tracebacks then carry the template's lines
_LARGE = 256
"""Bits of a product."""
_BACKTICKS = re.compile("`+")


_OF_THE_ROLE = ("role", "writes")
"""Variables that come from the role itself, besides the fields of Prompt."""
_INTERRUPTED = '{% include "interrupted" %}'
_PLAIN_PARTS = '{% include "asked" %}{% include "given" %}{% include "worktree" %}{% include "contract" %}'


class Document(NamedTuple):
    """A document that an earlier stage wrote: `path` is that of the whole, `text` its content."""

    name: str
    path: str
    text: str


class Prompt(NamedTuple):
    """What a role's template may use; every field is a variable of that name.

    `attempt`: tries of this role on this task, from 1. `base_sha`: the commit of `base` that the work is compared
    with. `candidate`: the commit under review. `feedback`: oldest first here, newest first in the template.
    `answers`: the person's (question, answer) pairs. `notes`: what earlier attempts said about themselves.
    `produces`: what is asked for, "" = what the role says. `artifact`: absolute path of the document to be written.
    `documents`: the newest version of each. `roles`, `flows`: what a hand-over and subtasks may name. `advisory`: the
    verdict refuses nothing. `children`: ids of the tasks that this one was divided into. `interrupted`: it goes on in
    the session in which it was cut off; every prompt begins with that then.
    """

    task: Task
    stage: str
    attempt: int
    base: str
    base_sha: str
    result_file: str
    candidate: str = ""
    artifacts: str = ""
    feedback: tuple[Feedback, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    produces: str = ""
    artifact: str = ""
    documents: tuple[Document, ...] = ()
    roles: tuple[str, ...] = ()
    flows: tuple[str, ...] = ()
    advisory: bool = False
    children: tuple[str, ...] = ()
    interrupted: bool = False


def render(role: Role, prompt: Prompt) -> str:
    """The prompt's text, valid UTF-8. Raises Invalid with the role's file and line where the template fails.

    The text of a plain role comes as it is, and below it what every agent is told.
    """
    from jinja2 import TemplateError

    variables = _variables(role, prompt)
    try:
        with curbs.within(_SECONDS, _MEGABYTES):
            text = _compiled(_PLAIN_PARTS if role.plain else role.template).render(variables)
    except (TemplateError, *_RUNTIME) as error:
        problem = _problem(role, error)
        raise Invalid(str(problem), (problem,), problem.hint) from None
    if role.plain:
        text = f"{role.template.strip(chr(10))}\n\n{text}"
    if prompt.interrupted:
        text = f"{_compiled(_INTERRUPTED).render(variables)}{text}"
    return text.strip("\n").encode("utf-8", "replace").decode("utf-8") + "\n"


def check(role: Role) -> tuple[Problem, ...]:
    """Everything that would make `render` fail: broken syntax, unknown variables and fields, in file order."""
    if role.plain or "{" not in role.template:
        return ()
    unknown = tuple(_unknown(role))
    if unknown:
        return unknown
    try:
        for sample in _SAMPLES:
            render(role, sample)
    except Invalid as error:
        return error.problems
    return ()


def fence(text: str, info: str = "") -> str:
    """`text`, verbatim, in a fence that nothing in it can close."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{info}\n{text.strip(chr(10))}\n{ticks}"


def code(command: str | tuple[str, ...]) -> str:
    """A command, as typed, in backticks; one of several lines in a fence."""
    text = command if isinstance(command, str) else shlex.join(command)
    if "\n" in text.strip():
        return f"\n\n{fence(text.strip(), 'sh')}"
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{ticks}{space}{text.strip()}{space}{ticks}"


def _variables(role: Role, prompt: Prompt) -> dict[str, object]:
    """The prompt's fields with every text bounded: nobody's log makes a prompt that hangs an agent (LESSONS 6)."""
    newest = prompt.feedback[: -MAX_FEEDBACK - 1 : -1]
    produces = prompt.produces or (role.produces if role.produces != ANY else "commits")
    return {
        **prompt._asdict(),
        "role": role.name,
        "writes": role.writes and produces == "commits",
        "produces": produces,
        "artifact": prompt.artifact or _artifact(role, prompt, produces),
        "documents": tuple(one._replace(text=bounded(one.text, MAX_DOCUMENT)) for one in prompt.documents),
        "feedback": tuple(one._replace(text=bounded(one.text, MAX_TEXT)) for one in newest),
        "answers": tuple((bounded(asked, MAX_TEXT), bounded(said, MAX_TEXT)) for asked, said in prompt.answers),
        "notes": tuple(bounded(note, MAX_TEXT) for note in prompt.notes[-MAX_FEEDBACK:]),
    }


def _artifact(role: Role, prompt: Prompt, produces: str) -> str:
    """The path of the document that a role writes, where nobody said one."""
    if produces != "document":
        return ""
    return f"{prompt.artifacts or '$OCTOPOID_ARTIFACTS'}/{role.artifact or f'{role.name}.md'}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        """What one operation could make without end is refused: no signal comes through in the middle of it."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or _is_large(left, right):
                raise SecurityError(f"`{operator}` with these is more than a prompt needs")
            return super().call_binop(context, operator, left, right)

    environment = Bounded(
        optimized=False,  # it would compute `9 ** 9 ** 9` while it compiles
        loader=FunctionLoader(part),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,  # of the parts; the prompt's own are cut in `render`
        autoescape=False,  # a prompt is no HTML
    )
    environment.filters["fence"] = fence
    environment.filters["code"] = code
    return environment


def _is_large(left: Any, right: Any) -> bool:
    sizes = [
        one.bit_length() if isinstance(one, int) else len(one) if hasattr(one, "__len__") else 1
        for one in (left, right)
    ]
    if isinstance(left, int | float) and isinstance(right, int | float):
        return sum(sizes) > _LARGE
    times = next((one for one in (left, right) if isinstance(one, int)), 1)
    return times * max(sizes) > MAX_TEXT


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = _environment()
    return environment.template_class.from_code(
        environment, environment.compile(template, filename=_NAME), environment.make_globals(None)
    )


def _unknown(role: Role) -> Iterator[Problem]:
    """Variables that no prompt has, parts that are not there, in branches that no sample reaches too; broken syntax."""
    from jinja2 import TemplateSyntaxError, meta, nodes

    try:
        with curbs.within(_SECONDS, _MEGABYTES):  # to find the names jinja computes what is constant
            tree = _environment().parse(role.template)
            names = meta.find_undeclared_variables(tree) - set(_VARIABLES) - set(_environment().globals)
    except (TemplateSyntaxError, *_RUNTIME) as error:
        yield _problem(role, error)
        return
    found = [
        _at(role, node.lineno, node.name, f"unknown variable `{node.name}`", nearest(node.name, _VARIABLES))
        for node in tree.find_all(nodes.Name)
        if node.name in names and node.ctx == "load"
    ]
    for taken in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        name = getattr(getattr(taken, "template", None), "value", None)  # an expression is known when it is rendered
        if isinstance(name, str) and part(name) is None:
            found.append(_no_part(role, taken.lineno, name))
    yield from sorted(found, key=lambda one: (one.line, one.column))


def _no_part(role: Role, line: int, name: str) -> Problem:
    return _at(role, line, name, f"there is no part `{name}`", nearest(name, part_names()))


def _problem(role: Role, error: Exception) -> Problem:
    """The problem that an error of the template language is about."""
    from jinja2 import TemplateNotFound

    line = getattr(error, "lineno", None) or _line(error.__traceback__)
    if isinstance(error, TemplateNotFound):
        return _no_part(role, _line(error.__traceback__), str(error.name))
    message = str(getattr(error, "message", None) or error) or _UNNAMED.get(type(error), type(error).__name__)
    missing = re.search(r"has no attribute '(\w+)'", message)
    if missing:
        return _at(role, line, missing[1], f"unknown field `{missing[1]}`", nearest(missing[1], _FIELDS))
    return _at(role, line, "", f"template: {message}", "see docs/roles.md")


def _at(role: Role, line: int, word: str, message: str, hint: str) -> Problem:
    lines = role.template.split("\n")
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    found = re.search(rf"\b{re.escape(word)}\b", text) if word else None
    column = found.start() + 1 if found else len(text) - len(text.lstrip()) + 1
    return Problem(source_path(role), line, column if line else 0, message, hint)


def _line(trace: TracebackType | None) -> int:
    """The template's line in a traceback, 0 if it is not in there."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


_UNNAMED: dict[type[Exception], str] = {MemoryError: f"takes more than {_MEGABYTES} MB"}
_RUNTIME = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError),
    curbs.TooMuch,
)
"""What a template's own expressions can raise; anything else is a bug of ours."""

_VARIABLES = tuple(sorted({*Prompt._fields, *_OF_THE_ROLE}))
_FIELDS = tuple(sorted({*Task._fields, *Criterion._fields, *Feedback._fields, *Check._fields, *Document._fields}))

_PLAIN = Prompt(Task("sample", "Sample"), "implement", 1, "main", "0" * 40, "/result.json")
_SAMPLES = (
    _PLAIN,
    _PLAIN._replace(
        task=_PLAIN.task._replace(
            body="Text.",
            role="implementer",
            labels=("label",),
            depends_on=("other",),
            criteria=(Criterion("plain", None, True, 1), Criterion("executable", "true", False, 2)),
        ),
        attempt=2,
        candidate="1" * 40,
        artifacts="/artifacts",
        feedback=(Feedback("checks", "failed", 0.0), Feedback("human", "no", 1.0)),
        answers=(("Which?", "This."), ("And?", "")),
        checks=(Check("tests", ("true",)), Check("lint", "true")),
        notes=("done",),
        artifact="/artifacts/plan.md",
        documents=(Document("research.md", "/artifacts/research.md", "Text."),),
        roles=("implementer", "other"),
        flows=("default", "quick"),
        advisory=True,
        children=("one", "two"),
    ),
)
