"""
Runs one invocation after the other in a worker: takes it, starts dbt, copies its log, keeps its artifacts, says how it ended.

`worker.consumer` calls `Runner.work` for each ticket.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.callbacks import call_back
from dbt_watch.server.files import ARTIFACTS, files_of
from dbt_watch.server.invocations.records import InvocationEnd, InvocationState
from dbt_watch.server.masking import Masker, secrets_of
from dbt_watch.server.projects import served_projects
from dbt_watch.server.worker.child import DbtProgram
from dbt_watch.server.worker.hosts import FENCE_S, WorkerIdentity
from dbt_watch.server.worker.log_copy import LogCopy, copy_masked
from dbt_watch.server.worker.warm import NotWarm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dbt_watch.server.files import InvocationFiles
    from dbt_watch.server.invocations.records import Invocation
    from dbt_watch.server.invocations.store import InvocationStore
    from dbt_watch.server.projects import ServedProject
    from dbt_watch.server.settings import Settings
    from dbt_watch.server.worker.child import DbtProcess
    from dbt_watch.server.worker.warm import WarmProject

_LOGGER: Final = logging.getLogger(__name__)
# In seconds: how long dbt's output is waited for, how often a request to abort is looked for, how often the worker says
# that it lives.
_READ: Final = 0.2
_LOOK: Final = 0.4
_BEAT: Final = 5.0

_INTERNAL: Final = InvocationState.INTERNAL_ERROR


class Runner:
    """
    What a worker process does.

    :param stopping: tells whether the worker is to end
    :param warm: the projects of which dbt is imported, by their names
    """

    def __init__(
        self,
        settings: Settings,
        store: InvocationStore,
        stopping: Callable[[], bool],
        warm: Mapping[str, WarmProject] | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.stopping = stopping
        self.warm = warm or {}
        self._projects = served_projects(settings)
        self.owner = str(WorkerIdentity.of_this_process())

    def work(self) -> None:
        """Run what waits, until nothing does that may run."""
        while not self.stopping():
            invocation = self.store.claim(self.owner)
            if invocation is None:
                return
            self._run(invocation)

    def _run(self, invocation: Invocation) -> None:
        task_id = invocation.task_id
        project = self._projects.get(invocation.project)
        if project is None:
            end = InvocationEnd(
                state=_INTERNAL,
                exc_type="UnknownProject",
                exc_message="the server no longer has this project",
            )
        else:
            try:
                outcome = _Run(self, project, invocation).run()
            except Exception as error:
                _LOGGER.exception("invocation %s failed", task_id)
                outcome = InvocationEnd(
                    state=_INTERNAL, exc_type=type(error).__name__, exc_message=_reason(error)
                )
            if outcome is None:
                return
            end = outcome
        if self.store.finish(task_id, self.owner, end) and invocation.callback_url is not None:
            call_back(invocation.callback_url, task_id, end.state.value)


class _Run:
    """One invocation in a worker."""

    def __init__(self, runner: Runner, project: ServedProject, invocation: Invocation) -> None:
        self._settings = runner.settings
        self._store = runner.store
        self._stopping = runner.stopping
        self._owner = runner.owner
        self._warm = runner.warm.get(project.name)
        self._project = project
        self._task_id = invocation.task_id
        self._invocation = invocation
        self._files = files_of(self._settings.state_dir, invocation.task_id)
        secrets = secrets_of(project.settings.env, project.secret_environment(), invocation.command)
        self._masker = Masker(secrets)
        self._ended_by: InvocationEnd | None = None
        self._is_lost = False
        now = time.monotonic()
        self._looked_at = self._beat_at = self._heard_at = now
        self._ends_at = now + project.settings.time_limit_s
        self._stop_at: float | None = None

    def run(self) -> InvocationEnd | None:
        """Run dbt; return how it ended, None when the invocation is not this worker's any more."""
        invocation, project = self._invocation, self._project
        target = project.target_path(invocation.target)
        for directory in (self._files.directory, target):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = project.arguments(invocation.command, invocation.target, invocation.log_level)
        environment = project.environment(self._task_id, invocation.target)
        if not self._store.begin(self._task_id, self._owner):
            return None
        before = _times(target)
        with self._files.log.open("ab") as output:
            copy = LogCopy(output, self._masker, limit=self._settings.limits.log_bytes)
            try:
                dbt = self._start(arguments, environment)
            except OSError as error:
                return InvocationEnd(state=_INTERNAL, exc_type="CannotStart", exc_message=_reason(error))
            try:
                self._store.record_process(self._task_id, self._owner, dbt.pid, dbt.started)
                self._follow(dbt, copy)
            finally:
                code = dbt.close()
                copy.close()
        if self._is_lost:
            return None
        self._keep_artifacts(target, self._files, before)
        return self._ended_by or _end(code, copy)

    def _start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> DbtProcess:
        if self._warm is not None:
            try:
                return self._warm.fork(arguments, environment, self._project.directory)
            except NotWarm:
                _LOGGER.info("dbt of %s is started as a new program", self._task_id)
        return DbtProgram(arguments, environment, self._project.directory)

    def _follow(self, dbt: DbtProcess, copy: LogCopy) -> None:
        while not dbt.has_ended():
            data = dbt.read(_READ)
            if data:
                copy.feed(data)
            self._look()
            if self._is_lost:
                return
            if self._ended_by is not None:
                dbt.interrupt()

    def _look(self) -> None:
        """See whether dbt is to end early, and say that this worker lives."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK:
            return
        self._looked_at = now
        try:
            if now - self._beat_at >= _BEAT:
                self._beat_at = now
                self._is_lost = not self._store.heartbeat(self._task_id, self._owner)
                self._heard_at = now
            if self._ended_by is None and self._store.is_abort_requested(self._task_id):
                self._ended_by = InvocationEnd(state=InvocationState.ABORTED)
        except sa.exc.SQLAlchemyError:
            _LOGGER.warning("the database does not respond", exc_info=True)
            # By now another host may take the invocation for lost.
            self._is_lost = now - self._heard_at > FENCE_S
        if self._ended_by is None:
            self._ended_by = self._end_for_time(now)

    def _end_for_time(self, now: float) -> InvocationEnd | None:
        if now > self._ends_at:
            limit = self._project.settings.time_limit_s
            return InvocationEnd(
                state=_INTERNAL, exc_type="TimeLimit", exc_message=f"dbt ran for longer than {limit:g} s"
            )
        if self._stop_at is None and self._stopping():
            self._stop_at = now + self._settings.stop_grace_s
        if self._stop_at is not None and now > self._stop_at:
            return InvocationEnd(
                state=_INTERNAL, exc_type="ServerStopped", exc_message="the server was stopped while dbt ran"
            )
        return None

    def _keep_artifacts(self, target: Path, files: InvocationFiles, before: dict[str, int]) -> None:
        for name, changed in _times(target).items():
            source = target / name
            if changed == before.get(name):
                continue
            if source.stat().st_size > self._settings.limits.artifact_bytes:
                _LOGGER.warning("%s of %s is too large to keep", name, self._task_id)
                continue
            copy_masked(source, files.artifact(name), self._masker)


def _times(target: Path) -> dict[str, int]:
    """Return when each artifact was last written."""
    paths = [target / name for name in ARTIFACTS]
    return {path.name: path.stat().st_mtime_ns for path in paths if path.is_file()}


def _end(code: int, copy: LogCopy) -> InvocationEnd:
    if code == 0:
        return InvocationEnd(state=InvocationState.SUCCESS, exit_code=0)
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return InvocationEnd(
            state=_INTERNAL, exit_code=code, exc_type="DbtKilled", exc_message=f"dbt was ended by {name}"
        )
    kind = "NodesFailed" if code == 1 else "DbtError"
    return InvocationEnd(
        state=InvocationState.FAILURE, exit_code=code, exc_type=kind, exc_message=copy.message()
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) if isinstance(error, ArgumentError) else "see the log of the server"
