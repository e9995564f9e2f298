"""
The task that has a server run a command of dbt which is no build of a project: `DbtApiCommandOperator`.

It follows dbt on its worker. An attempt goes on with an invocation that an earlier one has left running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from airflow.sdk import BaseOperator

from dbt_watch.airflow.operator_refusals import refusals_named
from dbt_watch.airflow.secrets import redact
from dbt_watch.core.other_commands import server_words
from dbt_watch.exceptions import DbtWatchError, InvocationLost
from dbt_watch.producers.api.operator import ABORT_WITHIN_S, attempt_key
from dbt_watch.producers.command_watch import CommandWatch
from dbt_watch.producers.secrets import hide, secrets_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from dbt_watch.producers.api.answers import RemoteInvocation
    from dbt_watch.producers.api.client import WorkerClient
    from dbt_watch.producers.api.connection import ApiConnection
    from dbt_watch.producers.api.invocation_ids import AttemptKey


class DbtApiCommandOperator(BaseOperator):
    """
    Has a server run a command of dbt.

    :param command: `words`, and `args`, `vars` and `target` where they are given, with templates and XComArgs
    :param conn_id: Airflow's connection to the server
    :param project_dir: the server's name of the project
    """

    template_fields = ("command", "conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"command": "json"}
    ui_color = "#ff694a"

    def __init__(
        self,
        *,
        command: Mapping[str, Any],
        conn_id: str = "dbt_api",
        project_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        with refusals_named(DbtApiCommandOperator, kwargs):
            super().__init__(**kwargs)
        self.command = dict(command)
        self.conn_id = conn_id
        self.project_dir = project_dir
        self._connection: ApiConnection | None = None
        self._invocation_id: str | None = None
        self._is_stopped = False

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render as usual, and have Airflow mask what is secret among what dbt is given."""
        super().render_template_fields(context, jinja_env)
        hide(secrets_in({name: self.command.get(name) for name in ("args", "vars")}))

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Have dbt run once.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises InvocationLost: when the server did not run dbt to its end
        :raises ServerError: when the server does not answer, or refuses
        """
        # Not for a DAG file to load: httpx takes a tenth of a second.
        from dbt_watch.producers.api.client import WorkerClient  # noqa: PLC0415
        from dbt_watch.producers.api.invocation_log import InvocationFollowing  # noqa: PLC0415

        watch = CommandWatch(
            map(str, self.command["words"]),
            attempt=context["ti"].try_number,
            show=lambda line: self.log.info("%s", line),
            redact=redact,
        )
        client = WorkerClient(self.conn_id, on_tick=lambda: None)
        self._connection = client.connection
        try:
            invocation = self._invocation(
                client, attempt_key(context, client.connection.prefix, self.task_id)
            )
            end = client.run(InvocationFollowing(client.server, invocation.task_id, watch).steps())
        finally:
            client.close()
        watch.end(end.exit_code, end.reason, no_log=end.no_log)
        if end.exit_code != 0:
            raise watch.failure(InvocationLost)
        return watch.result()

    def on_kill(self) -> None:
        """Ask the server to end dbt, without waiting for long."""
        from dbt_watch.producers.api.client import abort_now  # noqa: PLC0415 - as in `execute`

        was_stopped, self._is_stopped = self._is_stopped, True
        if self._connection is not None and self._invocation_id is not None and not was_stopped:
            self.log.info("Aborting the invocation %s", self._invocation_id)
            abort_now(self._connection, self._invocation_id, within=ABORT_WITHIN_S)

    def _invocation(self, client: WorkerClient, key: AttemptKey) -> RemoteInvocation:
        """Return what an earlier attempt has left running, or have dbt run."""
        for number in range(key.attempt - 1, 0, -1):
            earlier = msgspec.structs.replace(key, attempt=number)
            found: RemoteInvocation = client.run(client.server.look(earlier.invocation_id))
            if found.is_open:
                self.log.info("The invocation %s is still running; following it", found.task_id)
                self._invocation_id = found.task_id
                return found
        # Before the server has it: whoever stops the task meanwhile has to name it.
        self._invocation_id = key.invocation_id
        command = server_words(self.command)
        posted: RemoteInvocation = client.run(
            client.server.post(command, key.invocation_id, self.project_dir)
        )
        self._invocation_id = posted.task_id
        if self._is_stopped:
            raise DbtWatchError("the task was stopped when the server had just been asked to run dbt")
        self.log.info("The server has accepted the invocation %s: %s", posted.task_id, posted.state)
        return posted
