"""
Every error that dbt_watch raises, in one tree.

DbtWatchError
 ├── ArgumentError      an argument of ours is wrong; raised while the DAG is parsed (also a ValueError)
 │    ├── ManifestError   the manifest is missing, foreign, damaged or too new
 │    └── SelectionError  a selection cannot be understood, or matches nothing
 ├── DbtRunFailed       dbt ended, and not well
 ├── NodeFailed         dbt reported a failure of this node
 ├── NodeNotBuilt       dbt did not come to this node
 └── PodLost            the pod did not run dbt, or went away before dbt was done

This module imports nothing, so every room may use it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DbtWatchError(Exception):
    """The root of all errors that dbt_watch raises on purpose."""


class ArgumentError(DbtWatchError, ValueError):
    """
    An argument is wrong.

    :param argument: its name, as the caller wrote it
    :param value: what was given
    :param expected: what would have been right, as a phrase ("a path to ...")
    :param known: valid values; the nearest ones are named in the message
    :param sought: what `known` is compared with, if not the value
    """

    def __init__(
        self,
        argument: str,
        value: object,
        expected: str,
        *,
        known: Iterable[str] = (),
        sought: str | None = None,
    ) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        text = f"{argument}={_shown(value)}: expected {expected}"
        near = difflib.get_close_matches(sought or str(value), list(known), n=3)
        if near:
            text += (
                f"; did you mean {', '.join(name if name.isprintable() else repr(name) for name in near)}?"
            )
        super().__init__(text)


class ManifestError(ArgumentError):
    """The manifest is missing, foreign, damaged or of an unknown version."""


class SelectionError(ArgumentError):
    """A selection cannot be understood, or matches nothing."""


class DbtRunFailed(DbtWatchError):
    """The process of dbt ended, and not well."""


class NodeFailed(DbtWatchError):
    """A failure of this node was reported."""


class NodeNotBuilt(DbtWatchError):
    """The run ended before it came to this node."""


class PodLost(DbtWatchError):
    """The pod did not run dbt, or went away before dbt was done."""


def _shown(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
