"""
Sends requests to a server of dbt, on a worker (`WorkerClient`) and in a triggerer (`TriggererClient`).

They carry out the procedures of `producers.api.protocol` and `producers.api.invocation_log`. On a worker each request is sent by a thread, so that the task's own thread goes on to heed signals and to write the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
import msgspec
from airflow.sdk import BaseHook

from dbt_watch.core.steps import Pause, run, run_async
from dbt_watch.core.text import one_line
from dbt_watch.producers.api.answers import Answer
from dbt_watch.producers.api.connection import read_connection
from dbt_watch.producers.api.protocol import Ask, DbtServer, NoAnswer, Renew
from dbt_watch.producers.secrets import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from typing_extensions import Self

    from dbt_watch.producers.api.connection import ApiConnection, OAuth2

log = logging.getLogger(__name__)

T = TypeVar("T")

# In seconds.
TICK: Final = 0.1
EXPIRY_MARGIN: Final = 30.0  # a token is renewed so long before it expires
DEFAULT_LIFETIME: Final = 300.0  # of a token whose issuer does not say

MAX_BYTES: Final = 512 * 1024 * 1024
"""How large an answer may be."""

_HTTP_OK: Final = 200
_HTTP_UNAUTHORIZED: Final = 401
_MAX_CHARS: Final = 300


class ClientCredentials(httpx.Auth):
    """
    Signs requests with a token that is got by the grant of client credentials (RFC 6749, 4.4).

    It is got anew before it expires, and when it is refused. The grant is a single request, and httpx asks an `Auth` for it on
    a worker and in a triggerer alike.

    :param oauth2: how to get one
    :param on_token: told of each that was got
    """

    requires_response_body = True

    def __init__(self, oauth2: OAuth2, on_token: Callable[[str], object]) -> None:
        self._oauth2 = oauth2
        self._on_token = on_token
        self._token = ""
        self._until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Get a token if there is none, send the request, and once more with a new token if the first is refused."""
        is_new = time.monotonic() >= self._until
        if is_new:
            self._take((yield self._token_request()))
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == _HTTP_UNAUTHORIZED and not is_new:
            self._take((yield self._token_request()))
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _token_request(self) -> httpx.Request:
        oauth2 = self._oauth2
        form = {"grant_type": "client_credentials"}
        form |= {
            name: value for name, value in (("scope", oauth2.scope), ("audience", oauth2.audience)) if value
        }
        if oauth2.auth_method == "client_secret_post":
            form |= {"client_id": oauth2.client_id, "client_secret": oauth2.client_secret}
        request = httpx.Request("POST", oauth2.token_url, data=form, headers={"Accept": "application/json"})
        if oauth2.auth_method == "client_secret_basic":
            basic = httpx.BasicAuth(oauth2.client_id, oauth2.client_secret)
            request = next(basic.auth_flow(request))
        return request

    def _take(self, response: httpx.Response) -> None:
        """
        Take the answer of the issuer.

        :raises NoAnswer: when there is no token in it
        """
        try:
            values = msgspec.json.decode(response.content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            values = None
        given: dict[str, Any] = values if isinstance(values, dict) else {}
        token = given.get("access_token")
        if response.status_code != _HTTP_OK or not isinstance(token, str) or not token.isascii():
            # What an issuer says of a refusal is made for people (RFC 6749, 5.2).
            said = " ".join(str(given[name]) for name in ("error", "error_description") if given.get(name))
            raise NoAnswer(
                f"no token from {self._oauth2.token_url.partition('?')[0]}: HTTP {response.status_code}"
                f" {one_line(said, _MAX_CHARS)}".rstrip(),
                are_credentials=True,
            )
        self._on_token(token)
        lifetime = given.get("expires_in")
        is_number = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
        seconds = float(lifetime) if is_number and lifetime is not None else DEFAULT_LIFETIME
        self._token = token
        self._until = time.monotonic() + max(1.0, seconds - min(EXPIRY_MARGIN, seconds / 2))


def _options(connection: ApiConnection, on_token: Callable[[str], object]) -> dict[str, Any]:
    """Return what both of httpx's clients are made with."""
    auth: httpx.Auth | None = None
    headers = {"Accept": "application/json, text/plain, */*", **connection.headers}
    if connection.oauth2 is not None:
        auth = ClientCredentials(connection.oauth2, on_token)
    elif connection.token is not None:
        headers["Authorization"] = f"Bearer {connection.token}"
    elif connection.login is not None:
        auth = httpx.BasicAuth(connection.login, connection.password or "")
    options: dict[str, Any] = {
        "auth": auth,
        "headers": headers,
        "timeout": httpx.Timeout(connection.timeout, connect=min(30.0, connection.timeout / 2)),
        "verify": connection.ssl_context(),
        "follow_redirects": False,
    }
    if connection.proxy is not None:
        options["proxy"] = connection.proxy
    return options


def _request(connection: ApiConnection, ask: Ask) -> dict[str, Any]:
    """Return the arguments of a request, as both clients take them."""
    return {
        "method": ask.method,
        "url": f"{connection.base_url}{ask.path}",
        "params": list(ask.params) or None,
        "json": ask.body,
    }


def _no_answer(error: Exception) -> NoAnswer:
    """Return what an error of httpx means."""
    causes: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 10:  # noqa: PLR2004 - no chain is as long
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    is_final = isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL)) or any(
        isinstance(each, ssl.SSLCertVerificationError) for each in causes
    )
    words = one_line(str(error), _MAX_CHARS)
    kind = type(error).__name__
    return NoAnswer(f"{kind}: {words}" if words else kind, is_final=is_final)


_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


class _Content:
    """Collects the content of an answer."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_BYTES:
            raise NoAnswer(f"the answer has more than {MAX_BYTES} bytes", is_final=True)
        self._pieces.append(piece)

    def taken(self) -> bytes:
        return b"".join(self._pieces)


def _answer(response: httpx.Response, content: _Content, began: float) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, content.taken(), time.monotonic() - began)


def server_of(connection: ApiConnection) -> DbtServer:
    """Return what is asked of the server of a connection."""
    return DbtServer(connection.name, connection.timeout)


def send_now(client: httpx.Client, connection: ApiConnection, ask: Ask) -> Answer:
    """
    Send a request and wait for its answer.

    :raises NoAnswer: when none comes
    """
    began, content = time.monotonic(), _Content()
    try:
        with client.stream(**_request(connection, ask)) as response:
            for piece in response.iter_bytes():
                content.feed(piece)
            return _answer(response, content, began)
    except _ERRORS as error:
        raise _no_answer(error) from error


def _hide_token(token: str) -> None:
    hide([token])


class WorkerClient:
    """
    Carries out procedures on a worker.

    :param conn_id: of Airflow's connection
    :param on_tick: called often meanwhile, in the task's own thread; may raise
    :param talking: a context manager in which Airflow is asked for the connection
    """

    def __init__(
        self,
        conn_id: str,
        *,
        on_tick: Callable[[], None],
        talking: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._conn_id = conn_id
        self._on_tick = on_tick
        self._talking = talking
        self.connection = self._read()
        self.server = server_of(self.connection)
        # Airflow is told of them by the task's own thread.
        self._tokens: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._client = httpx.Client(**_options(self.connection, self._tokens.put))

    def _read(self) -> ApiConnection:
        with self._talking():
            connection = read_connection(BaseHook.get_connection(self._conn_id))
        hide(connection.secrets)
        return connection

    def run(self, procedure: Generator[Ask | Renew | Pause, Any, T]) -> T:
        """
        Carry a procedure out.

        :raises ServerError: see the procedure
        """
        return run(procedure, self._do)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _do(self, step: Ask | Renew | Pause) -> Any:
        if isinstance(step, Ask):
            return self._send(step)
        if isinstance(step, Renew):
            return self._renew()
        deadline = time.monotonic() + step.seconds
        while time.monotonic() < deadline:
            self._on_tick()
            time.sleep(min(TICK, max(0.0, deadline - time.monotonic())))
        return None

    def _send(self, ask: Ask) -> Answer:
        found: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        client, connection = self._client, self.connection

        def send() -> None:
            try:
                found.put(send_now(client, connection, ask))
            except Exception as error:  # noqa: BLE001 - raised again in the other thread
                found.put(error)

        # A daemon, so that a server that does not answer never keeps a task's process alive.
        threading.Thread(target=send, name="dbt-watch-request", daemon=True).start()
        while True:
            with contextlib.suppress(queue.Empty):
                answer = found.get(timeout=TICK)
                break
            self._on_tick()
        self._on_tick()
        while not self._tokens.empty():
            hide([self._tokens.get()])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _renew(self) -> None:
        try:
            connection = self._read()
        except Exception as error:  # noqa: BLE001 - Airflow may not answer; the old one is tried on
            log.warning("The connection %s cannot be read again: %s", self._conn_id, error)
            return
        self._client.close()
        self.connection = connection
        self._client = httpx.Client(**_options(connection, self._tokens.put))


def abort_now(connection: ApiConnection, task_id: str, *, within: float) -> None:
    """
    Ask for the end of an invocation without waiting for long: from a signal's handler, which may run in the middle of anything.

    :param connection: how the server is reached
    :param task_id: the server's id of the invocation
    :param within: seconds
    """

    def abort() -> None:
        try:
            # A client of its own: the other one may be in use right now.
            with httpx.Client(**_options(connection, lambda _: None)) as client:
                run(server_of(connection).abort(task_id), lambda step: do(client, step))
        except Exception as error:  # noqa: BLE001 - there is nobody left to handle it
            log.warning("The invocation could not be aborted: %s", error)

    def do(client: httpx.Client, step: Ask | Renew | Pause) -> Any:
        if isinstance(step, Ask):
            return send_now(client, connection, step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        return None

    thread = threading.Thread(target=abort, name="dbt-watch-abort", daemon=True)
    thread.start()
    thread.join(within)


class TriggererClient:
    """
    Carries out procedures in a triggerer; `async with` opens and closes it.

    :param conn_id: of Airflow's connection
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._client: httpx.AsyncClient | None = None
        self._connection: ApiConnection | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    @property
    def server(self) -> DbtServer:
        """What is asked."""
        return server_of(self._opened[1])

    async def run(self, procedure: Generator[Ask | Renew | Pause, Any, T]) -> T:
        """
        Carry a procedure out.

        :raises ServerError: see the procedure
        """
        return await run_async(procedure, self._do)

    @property
    def _opened(self) -> tuple[httpx.AsyncClient, ApiConnection]:
        if self._client is None or self._connection is None:
            raise RuntimeError("the client is used outside of its `async with`")
        return self._client, self._connection

    async def _open(self) -> None:
        self._connection = read_connection(await BaseHook.aget_connection(self._conn_id))
        hide(self._connection.secrets)
        # Reading the certificates that are trusted takes tens of milliseconds, which all triggers would wait for.
        options = await asyncio.to_thread(_options, self._connection, _hide_token)
        self._client = httpx.AsyncClient(**options)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _do(self, step: Ask | Renew | Pause) -> Any:
        if isinstance(step, Ask):
            return await self._send(step)
        if isinstance(step, Renew):
            return await self._renew()
        await asyncio.sleep(step.seconds)
        return None

    async def _send(self, ask: Ask) -> Answer:
        client, connection = self._opened
        began, content = time.monotonic(), _Content()
        try:
            async with client.stream(**_request(connection, ask)) as response:
                async for piece in response.aiter_bytes():
                    content.feed(piece)
                    await asyncio.sleep(0)  # a long log must not keep the other triggers waiting
                return _answer(response, content, began)
        except _ERRORS as error:
            raise _no_answer(error) from error

    async def _renew(self) -> None:
        before = self._client
        try:
            await self._open()
        except Exception as error:  # noqa: BLE001 - Airflow may not answer; the old one is tried on
            log.warning("The connection %s cannot be read again: %s", self._conn_id, error)
            return
        if before is not None:
            await before.aclose()
