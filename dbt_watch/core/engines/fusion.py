"""
dbt Fusion 2.0, and dbt-core 2.0 on the same engine.

Writes compact JSON, NodeStart and NodeFinished at its default level, and the error text of a node at once, as a
Generic error with the node's id. A skipped or ephemeral node gets a start before it is skipped. Source: recordings of
2.0.0-preview.196 and of dbt-core 2.0.0-alpha.4.
"""

from __future__ import annotations

import re
from typing import Final

from dbt_watch.core.engines.roles import Role

MEANS: Final[dict[str, Role]] = {
    "Generic": Role.MESSAGE,
    "CommandCompleted": Role.SUMMARY,
}

# Processed: 4 hooks | 15 models | 1 unit test
_PROCESSED: Final = re.compile(r"^Processed: (.{1,1000})$", re.MULTILINE)
_KIND: Final = re.compile(r"(\d{1,9}) (?!hooks?\b)\w")


def nodes_processed(summary: str) -> int | None:
    """Return how many nodes a summary counts, hooks left out; None when it counts none."""
    found = _PROCESSED.search(summary)
    return sum(int(number) for number in _KIND.findall(found[1])) if found is not None else None
