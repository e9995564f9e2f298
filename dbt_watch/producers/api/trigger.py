"""
The trigger of a deferred producer whose dbt a server runs: follows the invocation in the triggerer.

`producers.api.operator` hands the task over to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.text import one_line
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.producers.api.attempt import ON_THE_SERVER
from dbt_watch.producers.api.client import TriggererClient
from dbt_watch.producers.api.invocation_log import InvocationFollowing
from dbt_watch.producers.dbt_trigger import END, DbtTrigger, Following, ended

if TYPE_CHECKING:
    from dbt_watch.core.journal.reader import JournalReader
    from dbt_watch.producers.api.invocation_log import RemoteEnd
    from dbt_watch.producers.dbt_trigger import HasEnded
    from dbt_watch.producers.journal_store import JournalStore

TRIGGER_CLASS: Final = "dbt_watch.producers.api.trigger.DbtApiTrigger"

ABORT_WITHIN_S: Final = 10.0
_MAX_CHARS: Final = 800


class DbtApiTrigger(DbtTrigger):
    """
    Follows one attempt on a server.

    :param conn_id: Airflow's connection to it
    :param invocation_id: the server's id of the invocation
    :param results: see `InvocationFollowing`
    :param more: see `DbtTrigger`
    """

    def __init__(
        self, *, conn_id: str, invocation_id: str, results: str = "run_results.json", **more: Any
    ) -> None:
        super().__init__(**more)
        self.conn_id = conn_id
        self.invocation_id = invocation_id
        self.results = results

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to make this trigger again."""
        own = {"conn_id": self.conn_id, "invocation_id": self.invocation_id, "results": self.results}
        return (TRIGGER_CLASS, {**own, **self.arguments()})

    def _make_event(self, status: str, message: str) -> dict[str, Any]:
        return {"status": status, "message": message, "invocation_id": self.invocation_id}

    async def _follow(self, store: JournalStore, written: JournalReader) -> dict[str, Any]:
        watch = self._watch(written)
        publisher = self._publisher(watch, store, written)

        async def follow() -> RemoteEnd:
            async with TriggererClient(self.conn_id) as client:
                steps = InvocationFollowing(
                    client.server, self.invocation_id, watch, results=self.results
                ).steps()
                return await client.run(steps)

        following = FollowingInvocation(watch, publisher, self._notes(store), follow)
        follower = asyncio.ensure_future(following.run())
        try:
            await asyncio.wait({follower}, timeout=self._time_left())
            if not follower.done():
                await ended(follower)
                await self._stop_dbt()
                reason = "the task took longer than its execution_timeout"
                return await self._broken_off(following, reason)
            error = follower.exception()
            if isinstance(error, DbtWatchError):
                return await self._broken_off(following, one_line(str(error), _MAX_CHARS))
            if error is not None:
                # Such as a connection that is not there, or is wrong.
                self.log.error("Following the invocation failed", exc_info=error)
                reason = f"the server could not be asked: {one_line(f'{type(error).__name__}: {error}', _MAX_CHARS)}"
                return await self._broken_off(following, reason)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        end = watch.closed
        assert end is not None  # noqa: S101 - a follower that is done has closed the journal
        return self._finished(end, watch.summary(), watch.failure_lines())

    async def _broken_off(self, following: FollowingInvocation, reason: str) -> dict[str, Any]:
        return {**self._make_event("failed", reason), END: await following.break_off(reason)}

    async def _stop_dbt(self) -> None:
        self.log.info("Aborting the invocation %s", self.invocation_id)
        try:
            await asyncio.wait_for(self._abort(), ABORT_WITHIN_S)
        except Exception:
            self.log.exception("Aborting the invocation %s failed", self.invocation_id)

    async def _abort(self) -> None:
        async with TriggererClient(self.conn_id) as client:
            await client.run(client.server.abort(self.invocation_id))


class FollowingInvocation(Following):
    """The way of an invocation's log into the journal."""

    async def _tell_phase(self) -> None:
        await self._notes.phase(*ON_THE_SERVER)

    def _take_end(self, end: HasEnded) -> None:
        told: Any = end
        self.watch.end(told.exit_code, told.reason, run_results=told.run_results, no_log=told.no_log)
