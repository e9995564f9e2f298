"""
Reads dbt's own results: `run_results.json` (v6) and `sources.json` (v3).

`core.log.ledger` reads one when a log is closed, if there is one: the container has put it into the log, with `artifacts=`, or
`dbt-watch replay --run-results` has it. Nothing is raised: an artifact that cannot be read counts as missing. Source: schemas.getdbt.com/dbt/run-results and
/sources.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dbt_watch.core.log.events import RunResult


class Timing(msgspec.Struct, gc=False):
    """One phase of a node: its name, and when it began and ended."""

    name: str = ""
    started_at: str | None = None
    completed_at: str | None = None


class BatchResults(msgspec.Struct, gc=False):
    """The batches of a microbatch model, each as the pair of its start and end."""

    successful: list[Any] = []
    failed: list[Any] = []


class Concluded(msgspec.Struct, gc=False):
    """What dbt concluded of one node."""

    unique_id: str
    status: str = ""
    message: str | None = None
    failures: int | None = None
    execution_time: float | None = None
    adapter_response: dict[str, Any] | None = None
    relation_name: str | None = None
    thread_id: str | None = None
    timing: list[Timing] = []
    batch_results: BatchResults | None = None
    # Of sources.json:
    error: str | None = None
    max_loaded_at_time_ago_in_s: float | None = None

    @property
    def text(self) -> str | None:
        """The message, wherever the artifact has it."""
        return self.message or self.error

    @property
    def run_result(self) -> RunResult:
        """The same, as an event of the log has it."""
        return RunResult(
            status=self.status,
            message=self.text,
            num_failures=self.failures,
            execution_time=self.execution_time,
            adapter_response=self.adapter_response,
        )


class Artifact(msgspec.Struct, gc=False):
    """The results of one dbt command."""

    invocation_id: str
    results: list[Concluded]


class _ArtifactMetadata(msgspec.Struct, gc=False):
    invocation_id: str = ""


class _Document(msgspec.Struct, gc=False):
    metadata: _ArtifactMetadata
    results: list[msgspec.Raw] = []


_documents = msgspec.json.Decoder(_Document)
_concluded = msgspec.json.Decoder(Concluded)


def read_artifact(content: bytes | None) -> Artifact | None:
    """
    Read an artifact.

    :param content: the file's bytes; None when there is none
    :returns: None when there is none, or when it is not one; results that cannot be read are left out
    """
    if not content:
        return None
    try:
        document = _documents.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    results = [found for raw in document.results if (found := _concluded_in(raw)) is not None]
    return Artifact(document.metadata.invocation_id, results)


def _concluded_in(raw: msgspec.Raw) -> Concluded | None:
    try:
        return _concluded.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
