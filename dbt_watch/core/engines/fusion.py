"""
dbt Fusion 2.0, and dbt-core 2.0 on the same engine.

Writes compact JSON, NodeStart and NodeFinished at its default level, and the error text of a node at once, as a
Generic error with the node's id. A skipped or ephemeral node gets a start before it is skipped. Source: recordings of
2.0.0-preview.196 and of dbt-core 2.0.0-alpha.4.
"""

from __future__ import annotations

from typing import Final

from dbt_watch.core.engines.roles import Role

MEANS: Final[dict[str, Role]] = {
    "Generic": Role.MESSAGE,
    "CommandCompleted": Role.SUMMARY,
}
