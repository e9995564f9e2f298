"""
`LocalKube`: the server with its thread, its directory and its kubeconfig, from start to stop.

Started by tests, by the demo and by `command`.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import concurrent.futures
import contextlib
import fcntl
import ipaddress
import os
import secrets
import ssl
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
from aiohttp import web

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.accounts import ADMIN, Account, Accounts, parse_rules
from dbt_watch.local.localkube.api.objects import DEFAULT_NAMESPACE, LASTING_NAMESPACES
from dbt_watch.local.localkube.containers import Machine, Timings
from dbt_watch.local.localkube.events import EventRecorder
from dbt_watch.local.localkube.faults import Faults
from dbt_watch.local.localkube.garbage import GarbageCollector
from dbt_watch.local.localkube.images import Image, Images
from dbt_watch.local.localkube.isolation import Isolation, IsolationMode, choose, remove_tree
from dbt_watch.local.localkube.kubelet import Kubelet
from dbt_watch.local.localkube.needs import Missing, missing_in
from dbt_watch.local.localkube.pod_facts import PodFact, PodFacts
from dbt_watch.local.localkube.server import Parts, make_app
from dbt_watch.local.localkube.store import (
    CONFIG_MAPS,
    NAMESPACES,
    SECRETS,
    Change,
    ChangeKind,
    Item,
    Store,
)
from dbt_watch.local.localkube.traffic import Traffic
from dbt_watch.local.localkube.validation import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from aiohttp.typedefs import Middleware
    from typing_extensions import Self

LOOPBACK = "127.0.0.1"
# Of the names of the servers' directories, and the file in each that is locked while its server lives.
PREFIX, LOCK = "localkube-", "lock"
# Seconds that open connections get at the stop, after all pods are gone.
SHUTDOWN = 0.5


@dataclass(frozen=True, slots=True)
class _Running:
    """What there is only while the server runs."""

    loop: asyncio.AbstractEventLoop
    directory: Path
    store: Store
    accounts: Accounts
    admin: Account
    faults: Faults


class LocalKube:
    """
    A Kubernetes API on loopback whose pods are processes of this machine.

    Use it as a context manager, plain or async; the server runs in a thread of its own either way.

    :param images: name as pods write it, or `*` for every other one -> an `Image`, or the path of a virtual environment or
        directory
    :param isolation: `auto`, `namespaces` (an error where none can be had) or `none`
    :param host: a loopback address
    :param port: 0 takes a free one
    :param kubeconfig: where to write the kubeconfig; by default in the server's own directory
    :param namespaces: to create besides `default`; None for any: each comes to be when something is created in it
    :param claims: name of a PersistentVolumeClaim -> the directory that pods of every namespace find behind it
    :param timings: how long the kubelet waits, in seconds
    :param middlewares: more of aiohttp's, which run after the check of the token
    :param secrets: name of a Secret -> its keys and values; every namespace has it
    :param config_maps: the same for config maps
    :raises ArgumentError: an argument is wrong; for `isolation` and a port in use, when it is entered
    """

    def __init__(
        self,
        images: Mapping[str, Image | str | os.PathLike[str]] | None = None,
        *,
        isolation: str = "auto",
        host: str = LOOPBACK,
        port: int = 0,
        kubeconfig: str | os.PathLike[str] | None = None,
        namespaces: Sequence[str] | None = (),
        claims: Mapping[str, str | os.PathLike[str]] | None = None,
        timings: Timings | None = None,
        middlewares: Sequence[Middleware] = (),
        secrets: Mapping[str, Mapping[str, str | bytes]] | None = None,
        config_maps: Mapping[str, Mapping[str, str | bytes]] | None = None,
    ) -> None:
        self._mode = IsolationMode.parse(isolation)
        self._host = _loopback(host)
        self._port = port
        self._images = Images(images or {})
        self._namespaces = namespaces
        self._claims = _directories(claims or {})
        self._timings = timings or Timings()
        self._middlewares = middlewares
        self._everywhere = [
            *((SECRETS, _secret(name, data)) for name, data in (secrets or {}).items()),
            *((CONFIG_MAPS, _config_map(name, data)) for name, data in (config_maps or {}).items()),
        ]
        self._wanted_kubeconfig = Path(kubeconfig).absolute() if kubeconfig is not None else None
        self._facts = PodFacts()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._leaving = threading.Event()
        self._url = ""
        self._isolated = False
        self._running: _Running | None = None

    @property
    def kubeconfig(self) -> Path:
        """The file to point KUBECONFIG at; its user may do everything."""
        return self._live.admin.path

    @property
    def token(self) -> str:
        """The token in that file."""
        return self._live.admin.token

    @property
    def faults(self) -> Faults:
        """The switches for what goes wrong in a real cluster."""
        return self._live.faults

    @property
    def _live(self) -> _Running:
        if self._running is None:
            raise RuntimeError("LocalKube is not running; use it as a context manager")
        return self._running

    def kubeconfig_for(
        self, rules: Sequence[Mapping[str, Any]], *, namespace: str | None = None, name: str = "airflow"
    ) -> Path:
        """
        Make a service account with no other rights than these, and return the path of its kubeconfig.

        What it may not do is refused as an API server with RBAC does.

        :param rules: as they stand in a Role: `{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}`
        :param namespace: where they hold, and what the kubeconfig names; None (a ClusterRole): everywhere, `default`
        :param name: of the service account
        :raises ArgumentError: a rule is not of that form
        """
        rights, home = parse_rules(rules, namespace), namespace or DEFAULT_NAMESPACE
        live = self._live
        path = live.directory / f"kubeconfig-{secrets.token_hex(4)}"
        user = f"system:serviceaccount:{home}:{name}"
        return live.accounts.add(user, path, namespace=home, rules=rights).path

    def accept_tokens(
        self,
        review: Callable[[str], str | None],
        rules: Sequence[Mapping[str, Any]] | None = None,
        *,
        namespace: str | None = None,
    ) -> None:
        """
        Let users in with tokens that somebody else has made, as a cluster does whose webhook reviews tokens.

        :param review: called in a thread with a token that is none of the server's own; returns the name of its user, None
            for a wrong one. As in a cluster, the answer holds for two minutes
        :param rules: what these users may do, as they stand in a Role; None for everything
        :param namespace: where the rules hold; None (a ClusterRole): everywhere
        :raises ArgumentError: a rule is not of that form
        """
        self._live.accounts.accept(review, None if rules is None else parse_rules(rules, namespace))

    @property
    def authority(self) -> str:
        """The certificate that clients check the server with, as PEM in base64: a kubeconfig's `certificate-authority-data`."""
        return self._live.accounts.authority

    @property
    def url(self) -> str:
        """The address of the API, empty before the start."""
        return self._url

    @property
    def isolated(self) -> bool:
        """Whether pods have PID namespaces of their own."""
        return self._isolated

    def replace_images(self, images: Mapping[str, Image | str | os.PathLike[str]]) -> None:
        """
        Have other images from now on; containers that run already keep theirs.

        :param images: as `LocalKube` takes them
        :raises ArgumentError: one is neither an `Image` nor the path of a directory
        """
        self._images.replace(images)

    def pods(self) -> list[PodFact]:
        """Return the facts of every pod ever created, oldest first, also of those that are deleted."""
        return self._facts.all()

    def missing(self) -> list[Missing]:
        """Return what keeps pods from starting and is not there: images, secrets and their keys, config maps, claims."""

        async def look() -> list[Missing]:
            return missing_in(live.store, self._images, self._claims)

        live = self._live
        return asyncio.run_coroutine_threadsafe(look(), live.loop).result()

    def forget_history(self) -> None:
        """Let every watch that resumes get a 410, as happens in a cluster after some minutes."""
        live = self._live
        live.loop.call_soon_threadsafe(live.store.forget_history)

    def start(self) -> None:
        """Start the server; returns when it serves."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._leaving.clear()
        atexit.register(self.stop)
        self._thread = threading.Thread(target=self._run, args=[started], name="localkube", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all pods, stop the server and remove its files; may be called twice."""
        atexit.unregister(self.stop)
        self._leaving.set()
        thread, loop, stop = self._thread, self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(stop.set)
        if thread is not None:
            thread.join()
        self._thread = self._loop = self._stop = self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, started: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that called start()
            if not started.done():
                started.set_exception(error)

    async def _serve(self, started: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        stop = self._stop = asyncio.Event()
        if self._leaving.is_set():  # stop() came before there was a loop to tell
            return
        directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(directory)
        try:
            _remove_leftovers(directory.parent)
            isolation = await choose(self._mode, directory)
            self._isolated = isolation.namespaces
            store = self._make_store()
            events = EventRecorder(store)
            machine = Machine(store, self._images, isolation, events, self._timings, self._claims)
            kubelet = Kubelet(machine, directory / "pods")
            runner = await self._listen(store, kubelet, isolation, directory)
            try:
                started.set_result(None)
                await stop.wait()
            finally:
                await kubelet.close()
                await runner.cleanup()
        finally:
            if self._running is not None:
                self._running.accounts.remove_files()
            remove_tree(directory)
            os.close(lock)

    def _make_store(self) -> Store:
        store = Store()
        store.takes_any_namespace = self._namespaces is None

        def furnish(change: Change) -> None:
            if change.resource is NAMESPACES and change.kind is ChangeKind.ADDED:
                namespace = change.new["metadata"]["name"]
                for resource, item in self._everywhere:
                    store.create(resource, prepare(resource, namespace, item))

        store.observers += [self._facts.observe, GarbageCollector(store).observe, furnish]
        for name in dict.fromkeys([*LASTING_NAMESPACES, *(self._namespaces or ())]):
            store.create(NAMESPACES, prepare(NAMESPACES, "", {"metadata": {"name": name}}))
        return store

    async def _listen(
        self, store: Store, kubelet: Kubelet, isolation: Isolation, directory: Path
    ) -> web.AppRunner:
        # The authority signs this one certificate; its key is never written down.
        authority = trustme.CA(organization_name="localkube")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", self._host, organization_name="localkube").configure_cert(tls)
        accounts = Accounts(base64.b64encode(authority.cert_pem.bytes()).decode())
        loop, traffic = asyncio.get_running_loop(), Traffic()
        faults = Faults(loop, store, kubelet, traffic, accounts)
        app = make_app(Parts(store, kubelet, isolation, accounts, traffic, faults), self._middlewares)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=SHUTDOWN
        )
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ArgumentError("port", self._port, f"a free port ({error.strerror})") from None
        host, port = runner.addresses[0][:2]
        self._url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        accounts.url = self._url
        path = self._wanted_kubeconfig or directory / "kubeconfig"
        admin = accounts.add(ADMIN, path, namespace=DEFAULT_NAMESPACE)
        self._running = _Running(loop, directory, store, accounts, admin, faults)
        return runner


def _secret(name: str, data: Mapping[str, str | bytes]) -> Item:
    return {"metadata": {"name": name}, "data": {key: _base64(value) for key, value in data.items()}}


def _config_map(name: str, data: Mapping[str, str | bytes]) -> Item:
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    others = {key: _base64(value) for key, value in data.items() if key not in texts}
    return {"metadata": {"name": name}, "data": texts, "binaryData": others}


def _base64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def _lock(directory: Path) -> int:
    """Mark a directory as in use, for as long as the returned descriptor is open."""
    # It has its name only when it is locked: another server takes one that is not for that of a server that was killed.
    draft = directory / f".{LOCK}"
    descriptor = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.rename(directory / LOCK)
    return descriptor


def _remove_leftovers(place: Path) -> None:
    """Remove the directories of this user's servers that were killed; theirs are no longer locked."""
    for directory in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(directory)
            finally:
                os.close(descriptor)


def _directories(claims: Mapping[str, str | os.PathLike[str]]) -> dict[str, Path]:
    found = {name: Path(path).absolute() for name, path in claims.items()}
    for name, path in found.items():
        if not path.is_dir():
            raise ArgumentError("claims", f"{name}={path}", "a directory that exists")
    return found


def _loopback(host: str) -> str:
    try:
        address = ipaddress.ip_address(LOOPBACK if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ArgumentError(
            "host", host, f"a loopback address such as {LOOPBACK}: pods run as processes of yours"
        )
    return str(address)
