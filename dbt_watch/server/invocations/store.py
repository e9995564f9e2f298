"""
The one truth about invocations: each step of one is a transaction here, so a process may be killed between any two.

`app` adds, reads and aborts; `worker.runner` claims, begins and finishes; `worker.sweep` settles what a dead worker left. The queue
only wakes workers: what runs next is decided by `claim`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from dbt_watch.server.database import INVOCATIONS, TURNS, Database
from dbt_watch.server.invocations.records import (
    OPEN,
    Invocation,
    InvocationEnd,
    InvocationState,
    NewInvocation,
    from_row,
)
from dbt_watch.server.masking import shown_command

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_TABLE: Final = INVOCATIONS.c
_PENDING: Final = _TABLE.state == InvocationState.PENDING.value
_STARTED: Final = _TABLE.state == InvocationState.STARTED.value


class TaskIdTaken(Exception):
    """Another invocation has this task_id."""


class QueueFull(Exception):
    """The maximum number of invocations is waiting."""


class InvocationStore:
    """
    The invocations in a database.

    :param queued: how many may wait
    """

    def __init__(self, database: Database, *, queued: int = 10_000) -> None:
        self._database = database
        self._queued = queued

    def add(self, new: NewInvocation) -> tuple[Invocation, bool]:
        """
        Keep an invocation that is to run, unless the same one is there.

        :return: what is kept, and whether it is new
        :raises TaskIdTaken: when another one has its task_id
        :raises QueueFull: when as many wait as may
        """
        values = {name: getattr(new, name) for name in NewInvocation.__dataclass_fields__}
        values |= {
            "command": json.dumps(new.command),
            "state": InvocationState.PENDING.value,
            "created_at": time.time(),
        }
        try:
            with self._database.writing() as connection:
                known = self._by_task_id(connection, new.task_id)
                if known is None:
                    waiting = connection.scalar(
                        sa.select(sa.func.count()).select_from(INVOCATIONS).where(_PENDING)
                    )
                    if (waiting or 0) >= self._queued:
                        raise QueueFull
                    connection.execute(INVOCATIONS.insert().values(values))
                    known = self._by_task_id(connection, new.task_id)
                    assert known is not None  # noqa: S101 - this transaction wrote it
                    return known, True
        except IntegrityError:
            # With other databases than SQLite two may add at a time.
            known = self.get(new.task_id)
        if known is None or known.fingerprint != new.fingerprint:
            raise TaskIdTaken
        return known, False

    def get(self, task_id: str) -> Invocation | None:
        """Return an invocation; None if there is none."""
        with self._database.reading() as connection:
            return self._by_task_id(connection, task_id)

    def page(
        self,
        *,
        projects: Collection[str],
        states: Collection[InvocationState] = (),
        target: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Invocation]:
        """
        Return invocations, the newest first.

        :param projects: of which projects
        :param states: in which states; in all when none is given
        :param before: only those before this `seq`
        """
        query = sa.select(INVOCATIONS).where(_TABLE.project.in_(projects))
        if states:
            query = query.where(_TABLE.state.in_([state.value for state in states]))
        if target is not None:
            query = query.where(_TABLE.target == target)
        if before is not None:
            query = query.where(_TABLE.seq < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_TABLE.seq.desc()).limit(limit)).mappings()
            return [from_row(dict(row)) for row in rows]

    def abort(self, task_id: str) -> Invocation | None:
        """End an invocation that waits, and ask the worker of one that runs to end it; return what is then known."""
        with self._database.writing() as connection:
            this = _TABLE.task_id == task_id
            aborted = {
                "state": InvocationState.ABORTED.value,
                "abort_requested": True,
                "ended_at": time.time(),
            }
            if not connection.execute(INVOCATIONS.update().where(this, _PENDING).values(aborted)).rowcount:
                connection.execute(INVOCATIONS.update().where(this, _STARTED).values(abort_requested=True))
            else:
                self._hide_command(connection, task_id)
            return self._by_task_id(connection, task_id)

    def claim(self, owner: str) -> Invocation | None:
        """
        Take the invocation whose turn it is.

        First comes the project of which the fewest run, of these the one whose last turn is the longest ago; of a project the
        oldest. One whose project and target are busy waits.

        :param owner: who takes it
        """
        with self._database.writing() as connection:
            self._database.lock(connection)
            seq = self._next(connection)
            if seq is None:
                return None
            now = time.time()
            connection.execute(
                INVOCATIONS.update()
                .where(_TABLE.seq == seq)
                .values(
                    state=InvocationState.STARTED.value,
                    owner=owner,
                    claims=_TABLE.claims + 1,
                    begun=False,
                    started_at=now,
                    heartbeat_at=now,
                )
            )
            row = connection.execute(sa.select(INVOCATIONS).where(_TABLE.seq == seq)).mappings().one()
            taken = from_row(dict(row))
            if not connection.execute(
                TURNS.update().where(TURNS.c.project == taken.project).values(last_at=now)
            ).rowcount:
                connection.execute(TURNS.insert().values(project=taken.project, last_at=now))
            return taken

    def claimable(self) -> int:
        """Return for how many projects and targets something waits that may run."""
        with self._database.reading() as connection:
            return len(self._candidates(connection))

    def begin(self, task_id: str, owner: str) -> bool:
        """Record that dbt is about to start; return False when the invocation no longer belongs to this owner."""
        return self._update(task_id, owner, begun=True, heartbeat_at=time.time())

    def record_process(self, task_id: str, owner: str, pid: int, started: float) -> bool:
        """Record the process in which dbt runs."""
        return self._update(task_id, owner, pid=pid, pid_started=started)

    def heartbeat(self, task_id: str, owner: str) -> bool:
        """Record that the worker is alive; return False when the invocation no longer belongs to this owner."""
        return self._update(task_id, owner, heartbeat_at=time.time())

    def is_abort_requested(self, task_id: str) -> bool:
        """Return whether an invocation is to end early."""
        with self._database.reading() as connection:
            query = sa.select(_TABLE.abort_requested).where(_TABLE.task_id == task_id)
            return bool(connection.scalar(query))

    def finish(self, task_id: str, owner: str, end: InvocationEnd) -> bool:
        """Record how an invocation ended; return False when it no longer belonged to this owner."""
        with self._database.writing() as connection:
            done = connection.execute(
                INVOCATIONS.update()
                .where(_TABLE.task_id == task_id, _TABLE.owner == owner, _STARTED)
                .values(
                    state=end.state.value,
                    exit_code=end.exit_code,
                    exc_type=end.exc_type,
                    exc_message=end.exc_message,
                    ended_at=time.time(),
                )
            )
            if done.rowcount:
                # What it needed to run, and nobody needs any more.
                self._hide_command(connection, task_id)
            return bool(done.rowcount)

    def requeue(self, task_id: str, owner: str) -> bool:
        """Let an invocation wait again that its owner did not begin; False when that has changed."""
        with self._database.writing() as connection:
            this = (_TABLE.task_id == task_id, _TABLE.owner == owner, _STARTED, _TABLE.begun.is_(False))
            aborted = INVOCATIONS.update().where(*this, _TABLE.abort_requested.is_(True))
            if connection.execute(
                aborted.values(state=InvocationState.ABORTED.value, ended_at=time.time())
            ).rowcount:
                return True
            waiting = INVOCATIONS.update().where(*this)
            return bool(
                connection.execute(
                    waiting.values(state=InvocationState.PENDING.value, owner=None, started_at=None)
                ).rowcount
            )

    def started(self) -> list[Invocation]:
        """Return what runs, or what a dead worker left."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(INVOCATIONS).where(_STARTED)).mappings()
            return [from_row(dict(row)) for row in rows]

    def ended_before(self, moment: float, *, limit: int = 100) -> list[str]:
        """Return the task_ids of invocations that ended before a time."""
        query = (
            sa.select(_TABLE.task_id)
            .where(_TABLE.state.not_in([state.value for state in OPEN]), _TABLE.ended_at < moment)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def remove(self, task_ids: Sequence[str]) -> None:
        """Forget invocations."""
        with self._database.writing() as connection:
            connection.execute(INVOCATIONS.delete().where(_TABLE.task_id.in_(task_ids)))

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many invocations there are, by project and state."""
        query = sa.select(_TABLE.project, _TABLE.state, sa.func.count()).group_by(
            _TABLE.project, _TABLE.state
        )
        with self._database.reading() as connection:
            rows: Any = connection.execute(query)
            return {(project, state): count for project, state, count in rows}

    def oldest_pending(self) -> float | None:
        """Return when the invocation was asked for that waits the longest; None when none waits."""
        with self._database.reading() as connection:
            oldest: float | None = connection.scalar(
                sa.select(sa.func.min(_TABLE.created_at)).where(_PENDING)
            )
            return oldest

    def _update(self, task_id: str, owner: str, **values: object) -> bool:
        this = INVOCATIONS.update().where(_TABLE.task_id == task_id, _TABLE.owner == owner, _STARTED)
        with self._database.writing() as connection:
            return bool(connection.execute(this.values(values)).rowcount)

    @staticmethod
    def _by_task_id(connection: sa.Connection, task_id: str) -> Invocation | None:
        query = sa.select(INVOCATIONS).where(_TABLE.task_id == task_id)
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else from_row(dict(row))

    @staticmethod
    def _hide_command(connection: sa.Connection, task_id: str) -> None:
        this = _TABLE.task_id == task_id
        command = json.loads(connection.execute(sa.select(_TABLE.command).where(this)).scalar_one())
        shown = shown_command(command)
        if shown != command:
            connection.execute(INVOCATIONS.update().where(this).values(command=json.dumps(shown)))

    @staticmethod
    def _candidates(connection: sa.Connection) -> dict[tuple[str, str], int]:
        """Return the oldest that waits of each project and target that is free."""
        oldest = (
            sa.select(_TABLE.project, _TABLE.target, sa.func.min(_TABLE.seq))
            .where(_PENDING)
            .group_by(_TABLE.project, _TABLE.target)
        )
        busy = {
            tuple(row) for row in connection.execute(sa.select(_TABLE.project, _TABLE.target).where(_STARTED))
        }
        rows: Any = connection.execute(oldest)
        return {(project, target): seq for project, target, seq in rows if (project, target) not in busy}

    def _next(self, connection: sa.Connection) -> int | None:
        candidates = self._candidates(connection)
        if not candidates:
            return None
        running: dict[str, int] = dict(
            connection.execute(sa.select(_TABLE.project, sa.func.count()).where(_STARTED).group_by(_TABLE.project)).all()
        )  # fmt: skip
        turns: dict[str, float] = dict(connection.execute(sa.select(TURNS.c.project, TURNS.c.last_at)).all())
        return min(
            (running.get(project, 0), turns.get(project, 0.0), seq)
            for (project, _), seq in candidates.items()
        )[2]
