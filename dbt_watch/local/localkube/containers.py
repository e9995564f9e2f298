"""
One container of a pod: from its image to its exit code, its restarts, its log, and its stop.

Driven by `kubelet`, which says when it may start and when it must stop, and is told of every change of state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube import environment, images, without_namespaces
from dbt_watch.local.localkube.deadlines import Deadline, first
from dbt_watch.local.localkube.environment import ConfigError
from dbt_watch.local.localkube.events import EventRecorder, EventType
from dbt_watch.local.localkube.isolation import (
    CannotCreateError,
    CannotStartError,
    Command,
    Exit,
    Isolation,
    Process,
    Streams,
    Surroundings,
)
from dbt_watch.local.localkube.logs import ContainerLog
from dbt_watch.local.localkube.node import KubeNode
from dbt_watch.local.localkube.pod_status import ContainerView
from dbt_watch.local.localkube.store import CONFIG_MAPS, SECRETS, Item, Store
from dbt_watch.local.localkube.xcom_sidecar import EmulatedSidecar, is_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dbt_watch.local.localkube.images import Image, Images
    from dbt_watch.local.localkube.sandbox import Sandbox
    from dbt_watch.local.localkube.volumes import Volumes

# What the kubelet grants at least after a preStop hook that has used up the grace period, in seconds.
LEAST_GRACE = 2.0
# How much of a log becomes the termination message, when the container asks for that.
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048


@dataclass(frozen=True, slots=True)
class Timings:
    """
    How long the kubelet waits, in seconds; a cluster's own are in the comments.

    :ivar pull_error: an image stays in ErrImagePull before it goes to ImagePullBackOff
    :ivar restart: the first pause before a container is started again; it doubles up to `longest_restart`
    """

    pull_error: float = 2.0  # until the next sync, 10 or so
    restart: float = 1.0  # 10
    longest_restart: float = 300.0  # 300


@dataclass(frozen=True, slots=True)
class Machine:
    """What all containers of a server share."""

    store: Store
    images: Images
    isolation: Isolation
    events: EventRecorder
    timings: Timings = field(default_factory=Timings)
    claims: Mapping[str, Path] = field(default_factory=dict)
    node: KubeNode = field(default_factory=KubeNode)


class Container:
    """
    A container and all its runs.

    :param spec: its part of the pod's spec
    :param pod: returns the pod as it is now
    :param sandbox: what it shares with the pod's other containers
    :param directory: for the files of this container alone
    :param changed: called after every change of state
    """

    def __init__(
        self,
        spec: Item,
        machine: Machine,
        *,
        pod: Callable[[], Item],
        volumes: Volumes,
        sandbox: Sandbox,
        directory: Path,
        changed: Callable[[], None],
        init: bool = False,
        waiting: str = "ContainerCreating",
    ) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.is_sidecar: bool = init and spec.get("restartPolicy") == "Always"
        self.has_run = asyncio.Event()
        self.process: Process | EmulatedSidecar | None = None
        self.command: Command | None = None
        self.log: ContainerLog | None = None
        self.previous_log: ContainerLog | None = None
        self._machine = machine
        self._pod = pod
        self._volumes = volumes
        self._sandbox = sandbox
        self._directory = directory
        self._changed = changed
        self._path = f"spec.{'initContainers' if init else 'containers'}{{{self.name}}}"
        self._state: Item = {"waiting": {"reason": waiting}}
        self._last_state: Item = {}
        self._restarts = 0
        self._id = ""
        self._stop = asyncio.Event()
        self._end_reason: str | None = None
        self._stop_signal = signal.SIGTERM
        self._drained = asyncio.Event()
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def view(self) -> ContainerView:
        """What the container is doing, for the pod's status."""
        return ContainerView(
            self.name,
            self.spec["image"],
            self._state,
            self._last_state,
            self._restarts,
            self._id,
            has_run=self.has_run.is_set(),
            is_sidecar=self.is_sidecar,
        )

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return "running" in self._state

    async def run(self, restart_policy: str) -> None:
        """Start it, and start it again as the policy says, until it has ended for good or was stopped."""
        while not self._stop.is_set():
            started = await self._start()
            if started is not None:
                await self._wait_for_end(started)
            if self.view.terminated is None or not self._restarts_after(restart_policy):
                return
            await self._back_off()

    async def stop(self, deadline: Deadline) -> None:
        """
        End it as a cluster does: preStop hook, SIGTERM or what the image wants, SIGKILL at the deadline.

        What the hook takes counts against the deadline; if it takes everything, two seconds are left for SIGTERM.
        """
        self._stop.set()
        process = self.process
        if process is None or not process.running:
            return
        self._record("Killing", f"Stopping container {self.name}")
        ended = asyncio.ensure_future(process.wait())
        try:
            if deadline.left:
                await self._run_hook(process, deadline)
                process.signal(self._stop_signal)
                left = deadline if deadline.left else Deadline(LEAST_GRACE)
                await first(ended, left.reached())
            process.signal(signal.SIGKILL)
            await ended
        finally:
            ended.cancel()

    def kill(self, reason: str) -> None:
        """End it at once, as something outside of the pod does (`OOMKilled`); the reason stands in its status."""
        self._end_reason = reason
        if self.process is not None:
            self.process.signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of the files."""
        for log in (self.log, self.previous_log):
            if log is not None:
                log.remove()
        self.log = self.previous_log = None

    async def _start(self) -> Process | EmulatedSidecar | None:
        """Start the process as soon as that is possible; None when it never was."""
        image = await self._pull()
        while image is not None and not self._stop.is_set():
            try:
                plan = self._plan(image)
            except ConfigError as error:
                await self._wait_for_configuration(str(error))
                continue
            try:
                return await self._create(plan, image)
            except CannotCreateError as error:
                self._record("Failed", f"Error: {error}", warning=True)
                await self._wait(reason="CreateContainerError", message=str(error))
            except CannotStartError as error:
                self._fail_to_start(str(error))
                return None
        return None

    async def _pull(self) -> Image | None:
        name: str = self.spec["image"]
        if not images.valid_name(name):
            text = f'Failed to apply default image tag "{name}": couldn\'t parse image name: invalid reference format'
            self._record("InspectFailed", text, warning=True)
            await self._wait(reason="InvalidImageName", message=text)
            return None
        image = self._machine.images.find(name)
        if image is not None:
            self._record("Pulled", f'Container image "{name}" already present on machine')
            return image
        if self.spec.get("imagePullPolicy") == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            self._record("ErrImageNeverPull", text, warning=True)
            await self._wait(reason="ErrImageNeverPull", message=text)
            return None
        await self._fail_to_pull(name)
        return None

    async def _fail_to_pull(self, name: str) -> None:
        error = f'failed to pull and unpack image "{name}": {name}: not found'
        self._record("Pulling", f'Pulling image "{name}"')
        self._record("Failed", f'Failed to pull image "{name}": {error}', warning=True)
        self._record("Failed", "Error: ErrImagePull", warning=True)
        await self._wait(reason="ErrImagePull", message=error, seconds=self._machine.timings.pull_error)
        if not self._stop.is_set():
            text = f'Back-off pulling image "{name}"'
            self._record("BackOff", text)
            self._record("Failed", "Error: ImagePullBackOff", warning=True)
            await self._wait(reason="ImagePullBackOff", message=f"{text}: ErrImagePull: {error}")

    def _plan(self, image: Image) -> Command:
        pod = self._pod()
        variables = environment.variables_of(self.spec, pod, image, self._machine.store)
        argv = environment.command_line(self.spec, image, variables)
        variables.setdefault("HOME", "/pod")
        return Command(argv, variables, self.spec.get("workingDir") or image.workdir)

    async def _create(self, plan: Command, image: Image) -> Process | EmulatedSidecar:
        mounts = [*image.bound_paths(), *self._volumes.bound_paths(self.spec)]
        self._id = f"localkube://{uuid.uuid4().hex * 2}"
        self._stop_signal = image.stop_signal
        self._open_log()
        own = self._directory / f"run-{self._restarts}"
        own.mkdir()
        process: Process | EmulatedSidecar
        if self._machine.isolation.namespaces:
            beside = await self._sandbox.pause()
            around = Surroundings(own, environment.host_name(self._pod()), mounts, beside)
            process = await self._spawn(plan, around)
        else:
            table = without_namespaces.PathTable.prepare(mounts, own)
            if is_sidecar(plan.argv):
                process = EmulatedSidecar(table.locate)
                self._drained.set()
            else:
                home = own / "home"
                home.mkdir()
                plan = without_namespaces.permitted(table.command(plan), image)
                if plan.env.get("HOME") == "/pod":
                    plan = Command(plan.argv, {**plan.env, "HOME": str(home)}, plan.cwd)
                process = await self._spawn(plan, Surroundings(own, ""))
        self.process, self.command = process, plan
        self._record("Created", f"Created container: {self.name}")
        self._record("Started", f"Started container {self.name}")
        self.has_run.set()
        self._enter({"running": {"startedAt": self._machine.node.clock.timestamp()}})
        if self._stop.is_set():
            process.signal(signal.SIGKILL)  # was told to stop while it started
        return process

    async def _spawn(self, plan: Command, around: Surroundings) -> Process:
        read, write = os.pipe()
        try:
            process = await self._machine.isolation.start(plan, Streams(stdout=write, stderr=write), around)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._collect_output(read)
        return process

    def _collect_output(self, descriptor: int) -> None:
        """Append to the log whatever arrives, as it arrives."""
        log = self.log
        drained = self._drained = asyncio.Event()
        loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)

        def take() -> None:
            try:
                data = os.read(descriptor, 1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data and log is not None and not log.closed:
                log.append(data)
            elif not data:
                loop.remove_reader(descriptor)
                os.close(descriptor)
                drained.set()

        loop.add_reader(descriptor, take)

    async def _wait_for_end(self, process: Process | EmulatedSidecar) -> None:
        started_at = self._state["running"]["startedAt"]
        ended = await process.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            # Without a namespace, something that the process left behind may hold the pipe.
            await asyncio.wait_for(self._drained.wait(), 1.0)
        if self.log is not None:
            self.log.close()
        self._enter({"terminated": self._terminated(ended, started_at)})

    def _terminated(self, ended: Exit, started_at: str) -> Item:
        reason = self._end_reason or ("Completed" if ended.code == 0 else "Error")
        self._end_reason = None
        state: dict[str, Any] = {
            "exitCode": ended.code,
            "reason": reason,
            "startedAt": started_at,
            "finishedAt": self._machine.node.clock.timestamp(),
            "containerID": self._id,
        }
        if self.log is not None and ended.code and self._wants_log_as_message():
            text = self.log.last_lines(FALLBACK_LINES, FALLBACK_BYTES).decode(errors="replace")
            state["message"] = text
        return state

    def _wants_log_as_message(self) -> bool:
        return bool(self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError")

    def _fail_to_start(self, error: str) -> None:
        text = f"failed to create containerd task: failed to create shim task: {error}"
        self._record("Failed", f"Error: {text}", warning=True)
        if self.log is not None:
            self.log.close()
        moment = self._machine.node.clock.timestamp()
        self._enter(
            {
                "terminated": {
                    "exitCode": 128,
                    "reason": "StartError",
                    "message": text,
                    "startedAt": "1970-01-01T00:00:00Z",
                    "finishedAt": moment,
                    "containerID": self._id,
                }
            }
        )

    def _restarts_after(self, policy: str) -> bool:
        if self._stop.is_set() or policy == "Never":
            return False
        return policy == "Always" or not self.view.succeeded

    async def _back_off(self) -> None:
        timings = self._machine.timings
        pause = min(timings.restart * 2**self._restarts, timings.longest_restart)
        self._last_state = self._state
        text = f"back-off {pause:g}s restarting failed container={self.name} pod={self._pod()['metadata']['name']}"
        self._record("BackOff", f"Back-off restarting failed container {self.name}", warning=True)
        await self._wait(reason="CrashLoopBackOff", message=text, seconds=pause)
        self._restarts += 1

    def _open_log(self) -> None:
        if self.log is not None:
            if self.previous_log is not None:
                self.previous_log.remove()
            self.previous_log = self.log
        self.log = ContainerLog(
            self._directory / f"{self._restarts}.log", self._machine.node.clock.nanoseconds
        )

    async def _wait_for_configuration(self, error: str) -> None:
        self._record("Failed", f"Error: {error}", warning=True)
        self._enter({"waiting": {"reason": "CreateContainerConfigError", "message": error}})
        with self._machine.store.next_change(SECRETS, CONFIG_MAPS) as changed:
            await first(changed.wait(), self._stop.wait())

    async def _wait(self, *, reason: str, message: str, seconds: float | None = None) -> None:
        """Be in a waiting state for some time, or until told to stop."""
        self._enter({"waiting": {"reason": reason, "message": message}})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _run_hook(self, process: Process | EmulatedSidecar, deadline: Deadline) -> None:
        hook = ((self.spec.get("lifecycle") or {}).get("preStop") or {}).get("exec")
        if not hook or self.command is None:
            return
        error = ""
        try:
            if not isinstance(process, Process):
                raise CannotStartError("an emulated container has no processes")  # noqa: TRY301 - one place records it
            command = Command(hook["command"], self.command.env, self.command.cwd)
            inside = await self._machine.isolation.execute(process, command, Streams())
        except CannotStartError as refused:
            error = str(refused)
        else:
            ended = asyncio.ensure_future(inside.wait())
            await first(ended, deadline.reached(), process.wait())
            if not ended.done():
                inside.signal(signal.SIGKILL)
                ended.cancel()
                error = "it did not end in time"
            elif ended.result().code:
                error = f"it ended with exit code {ended.result().code}"
        if error:
            self._record("FailedPreStopHook", f"PreStopHook failed: {error}", warning=True)

    def _record(self, reason: str, message: str, *, warning: bool = False) -> None:
        type_ = EventType.WARNING if warning else EventType.NORMAL
        self._machine.events.record(self._pod(), reason, message, type_=type_, container=self._path)

    def _enter(self, state: Item) -> None:
        self._state = state
        self._changed()
