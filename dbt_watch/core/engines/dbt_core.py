"""
dbt-core 1.5 to 1.12.

NodeStart, NodeFinished, MarkSkippedChildren and CatchableExceptionOnRun come at debug only; at info, the error text of
a node comes at the end of the run. Source: `dbt/events/types.py` of these versions and recordings of each.
"""

from __future__ import annotations

from typing import Final

from dbt_watch.core.engines.roles import Role

MEANS: Final[dict[str, Role]] = {
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
    "FirstRunResultError": Role.END_OF_RUN,  # 1.5
    "AfterFirstRunResultError": Role.END_OF_RUN,  # 1.5
    "LogCancelLine": Role.CANCEL,
    "MainEncounteredError": Role.CRASH,
    "StatsLine": Role.SUMMARY,
    "FreshnessCheckComplete": Role.SUMMARY,
    "NothingToDo": Role.NOTHING,
    "Note": Role.NOTE,
}
