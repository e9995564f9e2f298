"""An attempt whose dbt is run by a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbt_watch.exceptions import InvocationLost
from dbt_watch.producers.attempt import Attempt

if TYPE_CHECKING:
    from dbt_watch.core.run_notes import Phase
    from dbt_watch.exceptions import DbtWatchError

ON_THE_SERVER: Final[tuple[Phase, str]] = (
    "parsing",
    "the server has accepted the invocation; dbt has not started a node yet",
)
"""The phase of an attempt whose invocation is followed."""


class ApiAttempt(Attempt):
    """One attempt by a server."""

    runs_in = "invocation"

    @staticmethod
    def lost(why: str) -> DbtWatchError:
        """Return what the task fails with when there is no end of dbt."""
        return InvocationLost(why)
