"""The nearest right word, for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean …?` for the nearest of `choices`, else the list of them, else nothing."""
    import difflib  # 3 ms that only a mistake should cost

    known = sorted(choices)
    begun = [one for one in known if len(word) > 2 and one.startswith(word.lower())]
    if len(begun) == 1:
        return f"did you mean `{begun[0]}`?"
    for spelling in (word.lower().replace("-", "_"), word):
        near = difflib.get_close_matches(spelling, known, n=1, cutoff=0.6)
        if near:
            return f"did you mean `{near[0]}`?"
    return f"known: {', '.join(known[:20])}" if known else ""
