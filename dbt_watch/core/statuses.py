"""
The words that dbt uses for the state of a node, and what they mean.

The table is the only place that knows a word; `NodeResult`, the ledger and others ask it. Words that are not in it are kept
as they are, and count as open until the log ends. Source: `dbt/artifacts/schemas/results.py` of dbt-core 1.8 to 1.13,
and logs of dbt Fusion 2.0.
"""

from __future__ import annotations

import enum
from typing import Final


class Meaning(enum.Enum):
    """What a status says."""

    OPEN = "not finished yet"
    SUCCESS = "done"
    WARNING = "done, with a warning"
    FAILURE = "failed"
    SKIPPED = "dbt left it out, because something before it failed"
    NOT_RUN = "dbt never came to it, or was ended before it finished"


STARTED: Final = "started"
SKIPPED: Final = "skipped"
NO_OP: Final = "no-op"
CANCELLED: Final = "cancelled"
NOT_RUN: Final = "not run"

MEANINGS: Final[dict[str, Meaning]] = {
    STARTED: Meaning.OPEN,
    "compiling": Meaning.OPEN,
    "executing": Meaning.OPEN,
    "success": Meaning.SUCCESS,
    "pass": Meaning.SUCCESS,
    NO_OP: Meaning.SUCCESS,
    "reused": Meaning.SUCCESS,
    "warn": Meaning.WARNING,
    "error": Meaning.FAILURE,
    "fail": Meaning.FAILURE,
    "runtime error": Meaning.FAILURE,
    "partial success": Meaning.FAILURE,
    CANCELLED: Meaning.FAILURE,
    SKIPPED: Meaning.SKIPPED,
    NOT_RUN: Meaning.NOT_RUN,
}

FINAL: Final = frozenset(word for word, meaning in MEANINGS.items() if meaning is not Meaning.OPEN)
"""The words that end a node."""

# What dbt writes where it has no status: the `None` of Python, or nothing.
_ABSENT: Final = frozenset({"", "None", "none", "null"})


def meaning(status: str) -> Meaning:
    """Return what a status means; an unknown word is open."""
    return MEANINGS.get(status, Meaning.OPEN)


def is_known(status: str) -> bool:
    """Whether the word is one of dbt's, or one of ours."""
    return status in MEANINGS


def is_final(status: str) -> bool:
    """Whether a node with this status is over."""
    return status in FINAL


def final_word(node_status: str | None, data_status: str | None) -> str:
    """
    Return the status of an event that ends a node.

    `node_info.node_status` is to be trusted, but for unit tests it is the string "None", and for a skipped node it
    may still be "started"; then `data.status` holds the word, or, for models, free text such as "SELECT 100".

    :returns: the word, an unknown word of dbt's as it is, or "" when there is none
    """
    word = node_status or ""
    if word in FINAL:
        return word
    if word in _ABSENT or word in MEANINGS:
        other = (data_status or "").strip()
        lowered = other.lower()
        if lowered in FINAL:
            return lowered
        return "" if word in _ABSENT or not other else word
    return word
