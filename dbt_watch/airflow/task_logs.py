"""
The log of a task that runs in no process of its own: a file where the UI looks for it, in the form that Airflow writes.

The supervisor of a worker writes the same lines by `_configure_logging` and `_upload_logs`, for one task and for as long
as its process lives. Here the file is open only while lines are written, since many tasks wait for long.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, cast

import structlog
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.log import init_log_file, load_remote_log_handler, logging_processors, upload_to_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk.types import RuntimeTaskInstanceProtocol as RuntimeTI


class TaskLog:
    """
    The log of one try of a task.

    :param relative_path: where, as the scheduler has rendered it
    """

    def __init__(self, relative_path: str) -> None:
        self._relative_path = relative_path

    def write(self, lines: Callable[[Any], object]) -> None:
        """
        Append lines.

        :param lines: called with the logger to write them with
        """
        with init_log_file(self._relative_path).open("ab") as file:
            lines(_logger(file))

    def texts(self) -> set[str]:
        """Return what stands there by now."""
        with init_log_file(self._relative_path).open("rb") as file:
            records = [_decoded(line) for line in file]
        return {record["event"] for record in records if isinstance(record.get("event"), str)}

    def upload(self, task_instance: Mapping[str, Any]) -> None:
        """
        Bring it to where this deployment keeps the logs of tasks; blocks for as long as that takes.

        :param task_instance: the one whose log it is, as the execution API has it, for storages that ask
        """
        with init_log_file(self._relative_path).open("ab") as file:
            upload_to_remote(_logger(file), cast("RuntimeTI", TaskInstance.model_validate(task_instance)))


def are_kept_elsewhere() -> bool:
    """Return whether logs are to be uploaded; blocks while the configuration of logging is loaded, the first time."""
    return load_remote_log_handler() is not None


def _logger(file: Any) -> Any:
    return structlog.wrap_logger(
        structlog.BytesLogger(file),
        processors=logging_processors(json_output=True),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_name="task",
    ).bind()


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
