"""
Which resource types a dbt command selects, by the version of dbt. `select_nodes` asks.

Source: the run_results.json of a `dbt build` of everything, recorded with each version.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: what `dbt ls` lists when it is not told
LISTED = frozenset(
    {
        "exposure",
        "function",
        "metric",
        "model",
        "saved_query",
        "seed",
        "semantic_model",
        "snapshot",
        "source",
        "test",
        "unit_test",
    }
)
_LISTABLE = LISTED | {"analysis"}

_BASE = frozenset({"model", "seed", "snapshot", "test", "unit_test"})
_FUSION = (2, 0)
#: what `dbt build` builds, by the first version that does; Fusion has its own row, and the last one is that of 1.8
_BUILT = (
    (_FUSION, _BASE | {"function"}),
    ((1, 11), _BASE | {"saved_query", "exposure", "function"}),
    ((1, 10), _BASE | {"saved_query", "exposure"}),
    ((0, 0), _BASE | {"saved_query"}),
)
_VERSION = re.compile(r"(\d+)\.(\d+)")


def release(dbt_version: str) -> tuple[int, int]:
    """Return the major and minor number of a version; a version that has none counts as dbt 1.12."""
    match = _VERSION.match(dbt_version)
    return (int(match[1]), int(match[2])) if match else (1, 12)


def built_by(dbt_version: str) -> frozenset[str]:
    """Return the resource types that `dbt build` of this version builds."""
    return next(types for since, types in _BUILT if release(dbt_version) >= since)


def asked_for(
    dbt_version: str, *, included: Sequence[str], excluded: Sequence[str], buildable_only: bool
) -> frozenset[str]:
    """
    Return the resource types that a selection keeps.

    :param included: as `--resource-type` takes them, with "all" and "default"; empty for the default
    :param excluded: as `--exclude-resource-type` takes them
    :param buildable_only: whether it is a build that selects, and not a list
    :raises SelectionError: when one of them is not known to the command
    """
    every = built_by(dbt_version) if buildable_only else _LISTABLE
    default = every if buildable_only else LISTED
    kept: set[str] = set()
    for name in _checked("resource_types", included, every, {"all", "default"}):
        kept |= every if name == "all" else default if name == "default" else {name}
    return frozenset((kept if included else default) - _checked("exclude_resource_types", excluded, every))


def _checked(
    argument: str, names: Iterable[str], known: frozenset[str], words: Iterable[str] = ()
) -> set[str]:
    valid = {*known, *words}
    checked = {name.lower() if isinstance(name, str) else name for name in names}
    for name in checked - valid:
        # To exclude a type that only other commands or versions know is no mistake.
        if argument == "exclude_resource_types" and name in _LISTABLE:
            continue
        raise SelectionError(argument, name, f"resource types: {', '.join(sorted(valid))}", known=valid)
    return checked
