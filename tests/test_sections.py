"""Octopoid writes into a task file in one way only, and never changes a byte that a person wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from octopoid import sections, taskfile

USER = b"# Add dark mode\n\nText with trailing blanks  \n"
START = b"<!-- octopoid:feedback -->\n"
END = b"<!-- octopoid:end -->\n"

# What could confuse a reader of markers, put together in any order.
_PIECES = st.sampled_from(
    [
        START,
        b"<!-- octopoid:questions -->\n",
        b"<!-- octopoid:nonsense -->\n",
        b"<!-- octopoid:end -->",
        END,
        b" " + START,
        b"```\n",
        b"```python\n",
        b"````\n",
        b"~~~\n",
        b"text\n",
        b"text",
        b"\n",
        b"\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"\xff\x00",
        b"---\n",
        b"# heading\r\n",
        b"  ",
    ]
)
steady = settings(deadline=None)
"""The machine may be busy; time is measured elsewhere."""

any_bytes = st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=12).map(b"".join))
kinds = st.sampled_from(sections.KINDS)
any_text = st.one_of(
    st.text(max_size=200),
    st.lists(_PIECES.map(lambda one: one.decode("utf-8", "replace")), max_size=8).map("".join),
    st.integers(0, 3000).map(lambda count: "🐙 long\n" * count),
)


def with_newline(data: bytes) -> bytes:
    """What `put` makes of the person's part: the one newline that it may need."""
    if not data or data.endswith(b"\n"):
        return data
    return data + (b"\r\n" if data.split(b"\n")[0].endswith(b"\r") and b"\n" in data else b"\n")


def without(data: bytes, kind: str) -> bytes:
    """`data` without that section. Four markers in the order start, start, end, end are left aside: when the inner two
    go, the outer two, which are the person's own, look like a section of ours."""
    dropped = sections.drop(data, kind)
    assume(kind not in [one.kind for one in sections.spans(dropped)])
    return dropped


@steady
@given(any_bytes, kinds, any_text)
@example(b"```\n" + START, "feedback", "```\nlog\n```")
@example(b"text\r\n" + START + b"x", "result", "")
def test_adding_and_dropping_a_section_leaves_what_the_person_wrote(data: bytes, kind: str, text: str) -> None:
    before = without(data, kind)
    written = sections.put(before, kind, text)
    assert sections.drop(written, kind) == with_newline(before)


@steady
@given(any_bytes, st.lists(st.tuples(kinds, any_text), max_size=6))
def test_any_number_of_writes_keeps_every_byte_of_the_person(data: bytes, writes: list[tuple[str, str]]) -> None:
    person = sections.strip(data)
    written = data
    for kind, text in writes:
        written = sections.put(written, kind, text)
    assert sections.strip(written) in (person, with_newline(data) and sections.strip(with_newline(data)))
    for kind, text in dict(writes).items():
        assert sections.read(written, kind) is not None, (kind, text)


@steady
@given(any_bytes, kinds, any_text, any_text)
def test_the_last_write_wins(data: bytes, kind: str, first: str, second: str) -> None:
    data = without(data, kind)
    assert sections.put(sections.put(data, kind, first), kind, second) == sections.put(data, kind, second)


@steady
@given(any_bytes, kinds, any_text)
def test_a_section_is_bounded_whatever_goes_in(data: bytes, kind: str, text: str) -> None:
    written = sections.put(b"", kind, text)
    assert len(written) <= sections.LIMIT + 100
    assert b"\0" not in written
    assert b"\x1b" not in written


def test_a_section_goes_to_the_end_and_the_file_keeps_its_line_ends() -> None:
    assert sections.put(USER, "feedback", "broken\ntests") == USER + START + b"broken\ntests\n" + END
    crlf = USER.replace(b"\n", b"\r\n")
    assert sections.put(crlf, "feedback", "a\nb") == crlf + (START + b"a\nb\n" + END).replace(b"\n", b"\r\n")
    assert sections.read(sections.put(crlf, "feedback", "a\r\nb"), "feedback") == "a\nb"


def test_a_bom_and_a_missing_last_newline_survive() -> None:
    data = b"\xef\xbb\xbf# Title  \r\nno newline at the end"
    written = sections.put(data, "blocked", "why")
    assert written.startswith(data + b"\r\n<!-- octopoid:blocked -->\r\n")
    assert sections.drop(written, "blocked") == data + b"\r\n"


def test_a_section_is_replaced_where_it_stands_and_text_between_sections_stays() -> None:
    data = sections.put(USER, "feedback", "old") + b"between\n"
    data = sections.put(data, "blocked", "why") + b"below"
    data = sections.put(data, "feedback", "new")
    assert data.index(b"new") < data.index(b"between") < data.index(b"why") < data.index(b"below")
    assert b"old" not in data
    assert sections.strip(data) == USER + b"between\nbelow"
    assert sections.read(data, "feedback") == "new"
    assert sections.read(data, "blocked") == "why"
    assert sections.read(data, "result") is None


def test_of_a_copied_section_one_stays() -> None:
    one = START + b"old\n" + END
    written = sections.put(one + b"mine\n" + one + b"below\n", "feedback", "new")
    assert written == b"mine\n" + START + b"new\n" + END + b"below\n"


@pytest.mark.parametrize(
    "change", [lambda data: sections.put(data, "feedback", "New."), lambda data: sections.drop(data, "feedback")]
)
def test_markers_that_the_person_left_alone_do_not_become_a_pair(change: Callable[[bytes], bytes]) -> None:
    """Found by the fuzzer: with the copy between them gone, what they enclose was a section of ours, and went next."""
    lone = b"<!-- octopoid:feedback -->\nMine, its end is gone.\n"
    copy = b"<!-- octopoid:feedback -->\nOld.\n<!-- octopoid:end -->\n"
    data = b"# A\n" + lone + copy + b"Mine, too.\n<!-- octopoid:end -->\n" + copy
    changed = change(data)
    assert sections.strip(changed) == sections.strip(data) and b"Old." not in changed
    assert sections.strip(change(changed)) == sections.strip(data)


def test_text_behind_a_removed_end_marker_is_not_lost() -> None:
    data = USER + START + b"our words\nwords of the person\n"
    assert sections.read(data, "feedback") is None
    assert sections.drop(data, "feedback") == data
    written = sections.put(data, "feedback", "new")
    assert written == data + START + b"new\n" + END
    assert sections.put(written, "feedback", "newer") == data + START + b"newer\n" + END


def test_a_removed_end_marker_does_not_swallow_the_next_section() -> None:
    data = USER + START + b"text of the person\n" + b"<!-- octopoid:blocked -->\nwhy\n" + END
    assert sections.drop(data, "feedback") == data
    assert sections.drop(data, "blocked") == USER + START + b"text of the person\n"


def test_an_example_in_a_code_fence_is_the_persons() -> None:
    data = USER + b"```markdown\n" + START + b"an example\n" + END + b"```\nmore\n"
    assert sections.strip(data) == data
    written = sections.put(data, "feedback", "real")
    assert written == data + START + b"real\n" + END
    assert sections.drop(written, "feedback") == data


def test_a_fence_that_nobody_closed_does_not_hide_our_sections() -> None:
    data = USER + b"```\nlog\n"
    for text in ("first", "```\nfenced\n```", "last"):
        data = sections.put(data, "feedback", text)
        data = sections.put(data, "blocked", text)
    assert data.count(b"octopoid:end") == 2
    assert sections.strip(data) == USER + b"```\nlog\n"


def test_markers_in_a_text_are_made_harmless() -> None:
    text = "agent said\n<!-- octopoid:end -->\n<!--octopoid:questions-->\n**Question 1**\n\nAnswer: yes\n"
    written = sections.put(USER, "feedback", text)
    assert [one.kind for one in sections.spans(written)] == ["feedback"]
    assert sections.drop(written, "feedback") == USER
    assert sections.answers(written) == ()
    assert "agent said" in str(sections.read(written, "feedback"))


def test_escape_sequences_and_nul_do_not_reach_the_file() -> None:
    text = "\x1b[31mFAILED\x1b[0m \x1b]0;title\x07done\x00\r50 %\r100 %\ud800"
    assert sections.read(sections.put(USER, "feedback", text), "feedback") == "FAILED done�\n50 %\n100 %?"
    taskfile.parse(sections.put(USER, "feedback", text), Path("a.md"))


def test_a_long_text_loses_its_middle() -> None:
    text = "beginning\n" + "x" * 50_000 + "\nthe end"
    kept = str(sections.read(sections.put(USER, "feedback", text), "feedback"))
    assert len(kept.encode()) <= sections.LIMIT
    assert kept.startswith("beginning\n")
    assert kept.endswith("\nthe end")
    assert "bytes cut here" in kept


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="history"):
        sections.put(USER, "history", "x")


# Questions and answers


def asked(*questions: str) -> bytes:
    return sections.put(USER, "questions", sections.questions_text(questions))


def test_questions_come_back_without_answers() -> None:
    questions = ("Which colour?\n- red\n> quoted\n\n**Question 2**\nAnswer: no", "And when?")
    assert sections.answers(asked(*questions)) == tuple((one, "") for one in questions)
    assert not sections.mentions_answers(asked(*questions))


@steady
@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=20))
def test_any_questions_keep_their_number(questions: list[str]) -> None:
    data = asked(*questions)
    assert len(sections.answers(data)) == len(questions)
    assert not sections.mentions_answers(data)
    assert sections.mentions_answers(data.replace(b"Answer:\n", b"Answer: yes\n"))


def test_answers_on_the_same_line_and_on_the_following_ones() -> None:
    data = asked("Which colour?", "When?", "Where?")
    first, second, third = (part for part in data.split(b"\nAnswer:\n", 3)[:3])
    data = first + b"\nAnswer: blue\n" + second + b"\nAnswer:\n\ntomorrow\nat nine\n" + third
    data += b"\n**Answer:** here\n" + END
    assert [answer for _, answer in sections.answers(data)] == ["blue", "tomorrow\nat nine", "here"]
    assert sections.mentions_answers(data)


def test_a_blank_answer_is_none() -> None:
    data = asked("Which colour?", "When?").replace(b"Answer:\n", b"Answer:  \n \n", 1)
    assert sections.answers(data) == (("Which colour?", ""), ("When?", ""))
    data = data.replace(b"Answer:  \n", b"Answer: red\n")
    assert sections.answers(data) == (("Which colour?", "red"), ("When?", ""))
    assert not sections.mentions_answers(data)


def test_an_answer_without_its_label_counts() -> None:
    data = asked("Which colour?").replace(b"Answer:", b"blue, please")
    assert sections.answers(data) == (("Which colour?", "blue, please"),)


def test_answers_in_a_file_with_crlf() -> None:
    data = sections.put(USER.replace(b"\n", b"\r\n"), "questions", sections.questions_text(["Why?"]))
    data = data.replace(b"Answer:\r\n", b"Answer: because\r\nof that\r\n")
    assert sections.answers(data) == (("Why?", "because\nof that"),)


def test_answers_are_read_although_the_end_marker_was_removed() -> None:
    data = asked("Why?").replace(b"Answer:\n" + END, b"Answer: because\n")
    assert sections.answers(data) == (("Why?", "because"),)
    data = sections.put(data, "blocked", "question")
    assert sections.answers(data) == (("Why?", "because"),)


def test_too_many_and_too_long_questions_fit() -> None:
    data = asked(*(f"{number} " + "why? <!-- octopoid:end -->\n" * 500 for number in range(40)))
    assert len(data) < len(USER) + sections.LIMIT + 100
    assert len(sections.answers(data)) == 20
    assert "20 more questions" in str(sections.read(data, "questions"))
    assert b"bytes cut here" in data


def test_no_questions_no_answers() -> None:
    assert sections.answers(USER) == ()
    assert sections.answers(sections.put(USER, "feedback", "x")) == ()
    assert not sections.mentions_answers(USER)


@pytest.mark.parametrize("line", [b"```\n", START, END, b"text of a usual line of a log file\n"])
def test_a_huge_file_costs_linear_time(line: bytes) -> None:
    def seconds(size: int) -> float:
        data = START + line * (size // len(line))
        started = time.process_time()
        sections.strip(data)
        return time.process_time() - started

    def best(size: int) -> float:
        return min(seconds(size) for _ in range(3))  # other processes cost this one cache and clock

    assert best(2_000_000) < max(12 * best(500_000), 0.5)
