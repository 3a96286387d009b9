"""A person's answers: what the file says, what came with the command, and which question each belongs to. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from octopoid.errors import UsageError

_NUMBERED = re.compile(r"([0-9]{1,3})[:.)]\s+(?=\S)")


def pairs(
    asked: Sequence[str], typed: Sequence[tuple[str, str]], replies: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """(question, answer) for every question in `asked`; "" where there is no answer yet.

    `typed`: what the file says. `replies` go to the open questions in order; one alone answers all of them together.
    With a number in front of each (`2: yes`) they go to those questions, also over what was typed.
    Raises UsageError when the replies cannot be matched.
    """
    said = [answer for _, answer in typed]
    answers = [*said[: len(asked)], *[""] * (len(asked) - len(said))]
    given = [one.strip() for one in replies if one.strip()]
    if not given:
        return tuple(zip(asked, answers, strict=True))
    numbered = [_NUMBERED.match(one) for one in given] if len(asked) > 1 else []
    if numbered and all(numbered):
        for match, reply in zip(numbered, given, strict=True):
            at = int(match[1]) if match else 0
            if not 1 <= at <= len(asked):
                raise UsageError(f"there is no question {at}: {_count(len(asked))} asked", "number them as shown")
            answers[at - 1] = reply[match.end() if match else 0 :]
        return tuple(zip(asked, answers, strict=True))
    open_ones = [at for at, answer in enumerate(answers) if not answer] or list(range(len(asked)))
    if len(given) == 1:
        for at in open_ones:
            answers[at] = given[0]
    elif len(given) == len(open_ones):
        for at, reply in zip(open_ones, given, strict=True):
            answers[at] = reply
    else:
        raise UsageError(
            f"{len(given)} answers for {len(open_ones)} open questions",
            "give one -m for each in order, or number them: -m '2: TEXT'",
        )
    return tuple(zip(asked, answers, strict=True))


def unanswered(answered: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """The numbers, from 1, of the questions that have no answer."""
    return tuple(number for number, (_, answer) in enumerate(answered, start=1) if not answer)


def _count(questions: int) -> str:
    return "1 question was" if questions == 1 else f"{questions} questions were"
