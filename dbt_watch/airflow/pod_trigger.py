"""
The trigger that KubernetesPodOperator defers to, run inside of ours.

It watches the start of the pod and the deadlines, and knows the way to the cluster. Subclasses of the operator, such as
GKEStartPodOperator, have one of their own; which one it is, is known only when the operator defers.

A trigger of theirs may make ready in its `run` how the cluster is reached, and clear it away at the end: EksPodTrigger writes
files that the credentials are read from. So that there is a client of the API before that, afterwards, and with fresh
credentials, a second one of the class is run up to this point.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import weakref
from typing import TYPE_CHECKING, Any, Final

import greenback
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from airflow.triggers.base import BaseTrigger

# What becomes of a pod whose task is stopped, under a key that is no argument of the trigger: not every class takes it.
_WHEN_KILLED: Final = "dbt_watch_when_killed"


def serialized(trigger: BaseTrigger, operator: Any) -> tuple[str, dict[str, Any]]:
    """
    Return what a `StockPodTrigger` is made of.

    :param trigger: that an operator defers to
    :param operator: the operator, some of whose arguments the trigger of a subclass may not know
    """
    path, arguments = trigger.serialize()
    action = getattr(operator, "on_kill_action", None)  # 10.12.2 does not have it
    when_killed = {
        "on_kill_action": None if action is None else action.value,
        "termination_grace_period": operator.termination_grace_period,
    }
    return path, {**arguments, _WHEN_KILLED: when_killed}


class StockPodTrigger:
    """
    One such trigger.

    :param path: of its class
    :param arguments: what it was serialized with, as `serialized` returns them
    """

    def __init__(self, path: str, arguments: dict[str, Any]) -> None:
        module, _, name = path.rpartition(".")
        arguments = dict(arguments)
        when_killed: dict[str, Any] = arguments.pop(_WHEN_KILLED, None) or {}
        # One that was deferred by an older version of ours has no such key.
        self._when_killed = {
            **arguments,
            **{key: value for key, value in when_killed.items() if value is not None},
        }
        self._arguments = arguments
        of_the_operator: Any = getattr(importlib.import_module(module), name)
        self._makes_ready = of_the_operator.run is not KubernetesPodTrigger.run
        self._class = _telling(of_the_operator) if self._makes_ready else of_the_operator
        self._trigger: Any = self._class(**arguments)
        self._kept = contextlib.AsyncExitStack()
        self._opening = asyncio.Lock()
        self._connection: Any = None

    @property
    def pod(self) -> tuple[str, str]:
        """Name and namespace of the pod."""
        return self._trigger.pod_name, self._trigger.pod_namespace

    @property
    def container(self) -> str:
        """The name of the base container."""
        return str(self._trigger.base_container_name)

    @property
    def hook(self) -> Any:
        """The provider's hook, which keeps the credentials that it has read first."""
        return self._trigger.hook

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """
        Open a client of the Kubernetes API.

        Where a class makes ready in its `run` how the cluster is reached, it is kept until `forget_credentials` or `close`:
        each new token of EksPodTrigger is the start of a program, 3 s of CPU.
        """
        if not self._makes_ready:
            async with self.hook.get_conn() as connection:
                yield connection
            return
        async with self._opening:
            if self._connection is None:
                await self.close()
                self._connection = await self._open()
        yield self._connection

    async def _open(self) -> Any:
        await _let_ask_airflow()
        ready = self._class(**self._arguments)
        run = await self._kept.enter_async_context(contextlib.aclosing(ready.run()))
        async with _turn():
            await anext(run)
        return await self._kept.enter_async_context(ready.hook.get_conn())

    def forget_credentials(self) -> None:
        """Have the credentials for the API read anew."""
        self._connection = None
        vars(self._trigger).pop("hook", None)  # a cached property, which makes a new one then

    async def close(self) -> None:
        """Clear away what `connect` has kept; it may be called again afterwards."""
        self._connection = None
        await self._kept.aclose()

    @property
    def deletes_when_killed(self) -> bool:
        """Whether the pod is to be deleted when a person stops the task."""
        return str(self._when_killed.get("on_kill_action", "delete_pod")) != "keep_pod"

    @property
    def grace_period(self) -> int | None:
        """The seconds that a pod which is deleted may take to end; None for what the pod itself says."""
        grace: int | None = self._when_killed.get("termination_grace_period")
        return grace

    async def event(self, task_instance: Any, has_started: asyncio.Event) -> dict[str, Any] | None:
        """
        Run it, and return what the operator would go on with.

        One that makes ready in its `run` how the cluster is reached is ended as soon as dbt's container has started: from then
        on it would look at the pod every other second, each time with a new token.

        :param task_instance: of the trigger that it runs in
        :param has_started: set as soon as the container has
        :returns: None when it was ended
        """
        self._trigger.task_instance = task_instance
        if not self._makes_ready:
            return await self._first_event()
        own = asyncio.ensure_future(self._first_event())
        started = asyncio.ensure_future(has_started.wait())
        try:
            await asyncio.wait({own, started}, return_when=asyncio.FIRST_COMPLETED)
            return own.result() if own.done() else None
        finally:
            for task in (own, started):
                task.cancel()
            await asyncio.gather(own, started, return_exceptions=True)

    async def on_kill(self) -> None:
        """Let it do what it does when a person has stopped the task, by Airflow 3.3."""
        await self._trigger.on_kill()

    async def cleanup(self) -> None:
        """Let it do what it does when it ends, and clear away what `connect` has kept."""
        try:
            await self._trigger.cleanup()
        finally:
            await self.close()

    async def _first_event(self) -> dict[str, Any]:
        await _let_ask_airflow()
        try:
            async with contextlib.AsyncExitStack() as turn:
                if self._makes_ready:
                    await turn.enter_async_context(_turn())
                    self._trigger.tell_ready = turn.aclose
                async with contextlib.aclosing(self._trigger.run()) as events:
                    async for event in events:
                        return dict(event.payload)
        except Exception as error:  # noqa: BLE001 - KubernetesPodTrigger's own are events; a subclass raises some before
            return self.make_event("error", f"{type(error).__name__}: {error}")
        return self.make_event("error", "the operator's own trigger ended without an event")

    def make_event(self, status: str, message: str) -> dict[str, Any]:
        """
        Return what the operator goes on with, in `trigger_reentry`.

        :param status: "success", "failed", "error" or "timeout"; with the last the pod is deleted without waiting for its end
        :param message: why
        """
        name, namespace = self.pod
        extras = self._arguments.get("trigger_kwargs") or {}
        return {"status": status, "name": name, "namespace": namespace, "message": message, **extras}


async def _let_ask_airflow() -> None:
    """
    Let what runs in this asyncio task ask Airflow for a connection by a call that blocks.

    The triggerer does so for the task that it runs a trigger in (`TriggerRunner.run_trigger`), and this is another one.
    """
    if os.environ.get("AIRFLOW_DISABLE_GREENBACK_PORTAL", "").lower() != "true":
        await greenback.ensure_portal()


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


def _turn() -> asyncio.Lock:
    """
    Return what lets the triggers of a process make ready one after the other.

    EksHook sets a variable of the environment meanwhile, and removes it; a second one that comes in between, when Airflow is
    asked for the connection, finds none to remove and fails (amazon provider 9.39.0, `generate_config_file`).
    """
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def _telling(trigger_class: type[Any]) -> type[Any]:
    """Return the same class, but that it tells where it has made all ready, or stops there."""

    class Telling(trigger_class, _Telling):  # type: ignore[misc] # known at run time only
        pass

    return Telling


class _Telling(KubernetesPodTrigger):
    """Stands behind a subclass of KubernetesPodTrigger, whose `run` comes to this one when all is ready."""

    tell_ready: Callable[[], Awaitable[None]] | None = None
    """Called then; without it, the run comes to nothing."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if self.tell_ready is None:
            yield TriggerEvent(None)
            return
        await self.tell_ready()
        async for event in super().run():
            yield event
