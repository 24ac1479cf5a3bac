"""No percentage of the book is typed: each is claimed by a post, recorded, or a definition.

A number that a program measured belongs into a cell, where it is computed again,
or into the ledger. ``chapter_rules.typed_percentages`` and ``tests/test_book.py``
ask :func:`unfounded` about every text that a reader sees.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from snnlib.records.ledger import read_ledger
from snnlib.settings.claims import CLAIMS

# Phrases whose percentage is exact by definition, or somebody's printed number, and why.
ALLOWED: dict[str, str] = {
    "95 % interval": "the level of every interval in the book",
    "95 % of all trials": "two standard errors of a bell curve, about",
    "around ten percent": "chance among ten classes",
    "be told from ten percent": "chance among ten classes",
    "guessing at 10 per cent": "chance among ten classes",
    "stays at 10 %": "chance among ten classes",
    "exactly 10 % on a balanced set": "chance among ten classes",
    "less than one percent of the gradient": "a line that an exercise draws",
    "wholly above 99 percent": "a line that an exercise draws",
    "gets 99.50 percent": "a better network that an exercise supposes",
    "towards 100 per cent": "the end of an axis",
    "98.34 % for fully connected spiking layers (Ghader et al. 2025)": "printed by its authors",
    "99.58 % with spiking convolutions (FFGAF-SNN 2025)": "printed by its authors",
    "1.36 % *error* for Hinton's": "printed in Hinton's paper of 2022",
    "0.64 % with images that are shifted like ours": "printed in Hinton's paper of 2022",
}

_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred")
_WORDS = {
    **{word: k for k, word in enumerate(_ONES, 1)},
    **{word: 10 * k for k, word in enumerate(_TENS, 2)},
    "one hundred": 100,
}
_NUMBER = rf"(?:\d+(?:\.\d+)?|{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
_SIGN = r"(?:\s|\\[,;! ]|~|-)*(?:\\?[%％]|per ?cent\b)"
_PERCENTAGE = re.compile(
    rf"(?<![0-9A-Za-z.])({_NUMBER})(?:{_SIGN})?(?:\s*(?:to|and|or|–|—|-)\s*({_NUMBER}))?{_SIGN}",
    re.IGNORECASE,
)


def percentages(text: str) -> Iterator[tuple[str, int, int]]:
    """Find each number that is followed by a sign of percent, or by the word.

    Yields:
        The number as it is printed, and the begin and end of its place in ``text``;
        both numbers of "2 to 3 %" share one place.
    """
    for found in _PERCENTAGE.finditer(text):
        for number in filter(None, found.groups()):
            yield number, found.start(), found.end()


def unfounded(text: str) -> Iterator[str]:
    """Name each percentage of a Markdown text that nobody claimed, recorded or defined."""
    apart = re.sub(r"^(#+ .*)$", r"\n\1\n", text, flags=re.M)  # a heading is a paragraph
    for block in re.split(r"\n\s*\n", apart):
        line = " ".join(block.split())
        for number, begin, end in percentages(line):
            if not (
                _is_allowed(line, begin, end)
                or _is_claimed(number, line, begin)
                or _is_recorded(number)
            ):
                near = line[max(0, begin - 40) : end + 20]
                yield f"{number} % is neither a claim nor in the ledger: ...{near}..."


def allowed_in(text: str) -> set[str]:
    """Pick the allowed phrases that a text uses, so that none outlives its use."""
    return {phrase for phrase in ALLOWED if phrase in " ".join(text.split())}


def _is_allowed(line: str, begin: int, end: int) -> bool:
    for phrase in ALLOWED:
        for found in re.finditer(re.escape(phrase), line):
            if found.start() <= begin and end <= found.end():
                return True
    return False


def _is_claimed(number: str, line: str, begin: int) -> bool:
    """Whether a post printed it, and the paragraph speaks of a post or quotes it."""
    quoted = line[:begin].count('"') % 2 == 1
    return (quoted or bool(re.search(r"\bposts?\b", line))) and _value(number) in _claimed()


def _is_recorded(number: str) -> bool:
    """Whether it is a result of the ledger, or an end of its interval, to two decimals.

    With fewer decimals too many numbers would be there by chance.
    """
    return bool(re.fullmatch(r"\d+\.\d\d", number)) and number in _recorded()


def _value(number: str) -> float:
    return float(_WORDS.get(number.lower(), number))


@functools.cache
def _claimed() -> frozenset[float]:
    texts = " ".join(f"{c.says} {c.quotation}" for c in CLAIMS.values())
    told = {_value(number) for number, _, _ in percentages(texts)}
    given = {a for c in CLAIMS.values() for a in (c.test_accuracy, c.training_accuracy)}
    return frozenset(told | {a for a in given if a is not None})


@functools.cache
def _recorded() -> frozenset[str]:
    results = [
        result
        for record in read_ledger()
        for result in (record.last, record.best_on_test, record.validation_selected)
        if result is not None
    ]
    return frozenset(f"{100 * x:.2f}" for r in results for x in (r.accuracy, r.low, r.high))
