"""What differs between the supported versions of Airflow: the one place that looks at a version."""

from __future__ import annotations

from typing import Final

from airflow import __version__ as _airflow_version

__all__ = [
    "HAS_WORKLOAD_TOKENS",
    "KNOWS_THE_TRIGGERER",
    "STARTS_FROM_TRIGGER",
    "TELLS_TRIGGERS_OF_KILLS",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSkipException",
]

_VERSION: Final = tuple(int(part) for part in _airflow_version.split(".")[:2])

# From 3.3 on the scheduler hands a task straight to the triggerer; before, the attribute is ignored.
STARTS_FROM_TRIGGER: Final = _VERSION >= (3, 3)

# Whether the inside of the triggerer is as `light_triggerer` knows it. For each new minor version, see there.
KNOWS_THE_TRIGGERER: Final = _VERSION == (3, 3)

# From 3.3 on `on_kill` is called when a user stops a deferred task; before, `cleanup` has to find out what has happened.
TELLS_TRIGGERS_OF_KILLS: Final = _VERSION >= (3, 3)

# From 3.3 on an executor's tasks have the tokens, the states and the ways to be queued anew that ours relies on.
HAS_WORKLOAD_TOKENS: Final = _VERSION >= (3, 3)

if _VERSION >= (3, 2):
    from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException
else:
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSkipException,
    )
