"""
What each event of dbt's log means, whichever engine writes it.

dbt-core 1.x and dbt Fusion (dbt-core 2.0 is the same engine) share the envelope of their records, but not all events: each has
a table. The names do not contradict each other, so nobody need know which engine writes. `core.log.ledger`,
`core.log.invocations`, `core.log.end_of_run` and `core.log.task_log` look events up in `MEANS`.
"""

from __future__ import annotations

import enum
import re
from typing import Final


class Role(enum.Enum):
    """What an event means."""

    COMMAND = "a dbt command begins"
    START = "a node begins"
    RESULT = "a node is over, in a state"
    NO_OP = "a node is over, with nothing to do"
    SKIPPED = "a node is skipped"
    FINISHED = "a node or one of its batches is over; more details of the result"
    MARKED = "a failed node keeps its children from running; details of the result"
    BATCH_START = "a batch of a microbatch model begins"
    BATCH_RESULT = "a batch of a microbatch model is over"
    ERROR_TEXT = "the error of a node that is about to fail"
    MESSAGE = "a message; when it is an error of a node, that node is about to fail"
    EPHEMERAL_FAILED = "a node is skipped because an ephemeral one failed"
    END_OF_RUN = "one of the texts about failed nodes after the last node"
    CANCEL = "a query is cancelled"
    CRASH = "the command breaks off"
    SUMMARY = "the command came to its end"
    NOTHING = "the command came to its end, with no node to run"
    NOTE = "a note, perhaps with an event inside that could not be encoded"


# dbt-core 1.8 and later. NodeStart, NodeFinished, MarkSkippedChildren and CatchableExceptionOnRun come at debug only; at info, the error
# text of a node comes at the end of the run. Source: `dbt/events/types.py` of these versions, and recordings of each.
_DBT_CORE: Final[dict[str, Role]] = {
    "MainReportVersion": Role.COMMAND,  # the first record of each command, of Fusion too
    "LogStartLine": Role.START,
    "LogHookStartLine": Role.START,
    "NodeStart": Role.START,
    "LogModelResult": Role.RESULT,
    "LogTestResult": Role.RESULT,
    "LogSeedResult": Role.RESULT,
    "LogSnapshotResult": Role.RESULT,
    "LogFunctionResult": Role.RESULT,
    "LogFreshnessResult": Role.RESULT,
    "LogHookEndLine": Role.RESULT,
    "LogNodeResult": Role.RESULT,
    "LogNodeNoOpResult": Role.NO_OP,
    "SkippingDetails": Role.SKIPPED,
    "LogSkipBecauseError": Role.EPHEMERAL_FAILED,
    "NodeFinished": Role.FINISHED,
    "MarkSkippedChildren": Role.MARKED,
    "LogStartBatch": Role.BATCH_START,
    "LogBatchResult": Role.BATCH_RESULT,
    "CatchableExceptionOnRun": Role.ERROR_TEXT,
    "InternalErrorOnRun": Role.ERROR_TEXT,
    "GenericExceptionOnRun": Role.ERROR_TEXT,
    "RunResultError": Role.END_OF_RUN,
    "RunResultErrorNoMessage": Role.END_OF_RUN,
    "RunResultFailure": Role.END_OF_RUN,
    "RunResultWarning": Role.END_OF_RUN,
    "RunResultWarningMessage": Role.END_OF_RUN,
    "LogCancelLine": Role.CANCEL,
    "MainEncounteredError": Role.CRASH,
    "StatsLine": Role.SUMMARY,
    "FreshnessCheckComplete": Role.SUMMARY,
    "NothingToDo": Role.NOTHING,
    "Note": Role.NOTE,
}

# Compact JSON, with NodeStart and NodeFinished at the default level, and the error text of a node at once, as a Generic error
# with the node's id. A skipped or ephemeral node gets a start before it is skipped. Source: recordings of 2.0.0-preview.196
# and of dbt-core 2.0.0-alpha.4.
_FUSION: Final[dict[str, Role]] = {
    "Generic": Role.MESSAGE,
    "CommandCompleted": Role.SUMMARY,
}

MEANS: Final[dict[str, Role]] = {**_DBT_CORE, **_FUSION}
"""The role of each event that the ledger reads, by the event's name."""

PARSED: Final = "FoundStats"
"""The event of dbt-core by which it tells what the project holds, once it has parsed it. Fusion has none."""

THREADS: Final = "ConcurrencyLine"
"""The event of dbt-core by which it tells how many threads it uses."""
MAX_THREADS: Final = 10_000
"""More than any dbt has; a number beyond it was not written by one."""

# Processed: 4 hooks | 15 models | 1 unit test
_PROCESSED: Final = re.compile(r"^Processed: (.{1,1000})$", re.MULTILINE)
_KIND: Final = re.compile(r"(\d{1,9}) (?!hooks?\b)\w")


def nodes_processed(summary: str) -> int | None:
    """Return how many nodes a summary counts, hooks left out; None when it counts none."""
    found = _PROCESSED.search(summary)
    return sum(int(number) for number in _KIND.findall(found[1])) if found is not None else None
