"""
What the events of each engine mean for the ledger.

dbt-core 1.x and dbt Fusion (dbt-core 2.0 is the same engine) share the envelope of their records, not their habits; a
module for each says which of its events mean what, in words that the ledger understands. `MEANS` holds both tables:
the names do not contradict each other, so the ledger need not know which engine writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbt_watch.core.engines import dbt_core, fusion

if TYPE_CHECKING:
    from dbt_watch.core.engines.roles import Role

MEANS: Final[dict[str, Role]] = {**dbt_core.MEANS, **fusion.MEANS}
"""The role of each event that the ledger reads, by the event's name."""
