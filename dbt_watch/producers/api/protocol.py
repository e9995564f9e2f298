"""
What is asked of a server of dbt, and how long it is asked again: procedures (see `core.steps`) that a worker and a triggerer carry out.

`DbtServer` has one procedure for each thing that can be asked. Each asks again while another answer may come: the network, a server
that is started again, credentials that are renewed. `producers.api.client` sends the requests, `producers.api.answers` reads what comes.

The server of this library and those in the field that follow the contract of the dbt API server differ in how they give a log, and
in what they leave out. They are told apart by their answers.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.steps import Pause
from dbt_watch.exceptions import ServerError
from dbt_watch.producers.api.answers import (
    NOT_FOUND,
    PENDING,
    REDIRECTS,
    STARTED,
    STATES,
    Answer,
    RemoteInvocation,
    invocation_in,
    page_in,
    retry_after_in,
    said_in,
    values_in,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

log = logging.getLogger(__name__)

# In seconds.
PATIENCE: Final = 600.0  # how long a server may be away while an invocation of ours is known to it
POST_PATIENCE: Final = 180.0  # how long it may be away when there is none yet
CREDENTIALS_PATIENCE: Final = 60.0  # how long credentials may be refused: they may just be renewed
ABORT_PATIENCE: Final = 20.0
PLAIN_404_PATIENCE: Final = (
    60.0  # how long a 404 that is no JSON counts as that of a proxy in front of a server that starts
)
BACKOFF_FIRST: Final = 0.5
BACKOFF_LIMIT: Final = 15.0

LONGEST_WAIT: Final = 15.0
"""How long a server is asked to wait until there is more of a log, in seconds; proxies cut what takes a minute."""
LOG_PIECE: Final = 1 << 20
"""How much of a log is asked for at a time, in bytes."""
LOG_TRIES: Final = 3
"""How often an answer is no part of a log before a server counts as one that gives none."""
MAX_PAGES: Final = 20
PAGE: Final = 500

_OK: Final = frozenset({200, 201, 202})
_REFUSED_CREDENTIALS: Final = frozenset({401, 403})
# Another answer may come to the same request.
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
# Of these it is certain that nothing was taken.
_NOT_TAKEN: Final = frozenset({401, 429})
_HTTP_NOT_FOUND: Final = 404


class Ask(NamedTuple):
    """
    A step: send a request. What came of it is an `Answer`, or the error `NoAnswer`.

    :param method: of HTTP
    :param path: below the server's address
    :param params: of the query
    :param body: to be sent as JSON
    """

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: Mapping[str, Any] | None = None


class Renew(NamedTuple):
    """A step: read the connection, and its credentials, anew."""


class NoAnswer(Exception):
    """
    No answer came to a request.

    :param text: why
    :param is_final: whether none will come however often it is asked, as where a certificate is not to be believed
    :param are_credentials: whether it was never sent, since no credentials could be had for it
    """

    def __init__(self, text: str, *, is_final: bool = False, are_credentials: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final
        self.are_credentials = are_credentials


class LogPart(NamedTuple):
    """
    A part of a log.

    :param content: as it is
    :param offset: where the next part begins, in bytes
    :param is_complete: whether nothing follows, now or later
    :param was_awaited: whether the server has waited for it
    """

    content: bytes
    offset: int
    is_complete: bool
    was_awaited: bool = False


class DbtServer:
    """
    What is asked of one server.

    :param name: what to call it in errors: its connection, and its address
    :param timeout: seconds within which it has to answer
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._wait = min(LONGEST_WAIT, timeout / 2)
        self._says_plain_404 = False

    # Procedures.

    def post(
        self, command: Sequence[str], task_id: str, project_dir: str | None
    ) -> Generator[Ask | Renew | Pause, Any, RemoteInvocation]:
        """
        Have the server run dbt, once, however often that has to be said.

        :param command: dbt's arguments
        :param task_id: our id of the invocation; a server may have one of its own
        :param project_dir: which project; None where the server has but one
        :raises ServerError: when it refuses, or does not answer
        """
        body: dict[str, Any] = {"command": list(command), "task_id": task_id}
        if project_dir is not None:
            body["project_dir"] = project_dir
        trouble = _Trouble(self._name, "posting the invocation", POST_PATIENCE)
        while True:
            may_be_taken = True
            try:
                answer: Answer = yield Ask("POST", "/invocations", body=body)
            except NoAnswer as error:
                may_be_taken = not error.are_credentials
                pause = trouble.of(error)
            else:
                taken = invocation_in(answer, task_id) if answer.status in _OK else None
                if taken is not None:
                    return taken
                may_be_taken = answer.status not in _NOT_TAKEN
                pause = trouble.of(answer, wants="an invocation")
            if trouble.needs_credentials:
                yield Renew()
            yield Pause(pause)
            if may_be_taken:
                found = yield from self.look(task_id, trouble.time_left)
                if found.state != NOT_FOUND:
                    log.info(
                        "The server has accepted the invocation, although its response was lost: it is %s",
                        found.state,
                    )
                    return found

    def look(
        self, task_id: str, patience: float = PATIENCE
    ) -> Generator[Ask | Renew | Pause, Any, RemoteInvocation]:
        """
        Ask for the state of an invocation.

        :param patience: seconds for which the server may be away
        :raises ServerError: when it refuses, or does not answer
        """
        path = f"/invocations/{quote(task_id, safe='')}"
        trouble = _Trouble(self._name, "getting the state of the invocation", patience)
        plain_until = time.monotonic() + min(patience, PLAIN_404_PATIENCE)
        while True:
            answer = yield from self._ask(Ask("GET", path), trouble)
            if answer.status == _HTTP_NOT_FOUND:
                is_plain = not self._says_plain_404 and values_in(answer) is None
                if is_plain and time.monotonic() < plain_until:
                    yield Pause(trouble.of(answer, wants="an invocation", is_for_now=True))
                    continue
                self._says_plain_404 |= is_plain
                return RemoteInvocation(task_id=task_id, state=NOT_FOUND)
            found = invocation_in(answer, task_id) if answer.status in _OK else None
            if found is not None and found.state in STATES:
                return found
            yield Pause(trouble.of(answer, wants="an invocation in a known state"))

    def log_part(
        self, task_id: str, offset: int, patience: float = PATIENCE
    ) -> Generator[Ask | Renew | Pause, Any, LogPart | None]:
        """
        Read a part of a log by its offset; the server may wait until there is one.

        :param offset: where it begins, in bytes
        :param patience: seconds for which the server may be away
        :returns: None where the server has no such log
        :raises ServerError: when it does not answer
        """
        path = f"/invocations/{quote(task_id, safe='')}/log"
        params = (("offset", str(offset)), ("limit", str(LOG_PIECE)), ("wait", f"{self._wait:g}"))
        trouble = _Trouble(self._name, "reading the log", patience)
        for _ in range(LOG_TRIES):
            answer = yield from self._ask(Ask("GET", path, params), trouble)
            if answer.status not in _OK:
                break
            following = answer.headers.get("x-log-offset", "")
            if following.isdecimal():
                is_complete = answer.headers.get("x-log-complete", "").lower() == "true"
                was_awaited = answer.seconds > self._wait / 2
                return LogPart(answer.content, int(following), is_complete, was_awaited)
            # Another server's log, or what a proxy says for a moment.
            yield Pause(BACKOFF_FIRST)
        return None

    def abort(self, task_id: str) -> Generator[Ask | Renew | Pause, Any, None]:
        """
        Ask for the end of an invocation. That dbt has ended is not waited for.

        :raises ServerError: when the server does not answer, or refuses
        """
        trouble = _Trouble(self._name, "aborting the invocation", ABORT_PATIENCE)
        answer = yield from self._ask(Ask("POST", f"/invocations/{quote(task_id, safe='')}/abort"), trouble)
        if answer.status not in {*_OK, 204, _HTTP_NOT_FOUND}:
            raise ServerError(f"{self._name} did not abort the invocation: {said_in(answer)}", answer.status)

    def artifact(self, task_id: str, name: str) -> Generator[Ask | Renew | Pause, Any, bytes | None]:
        """
        Read an artifact, such as `run_results.json`; None where it cannot be had.

        :param name: its name
        """
        path = f"/invocations/{quote(task_id, safe='')}/artifacts/{quote(name)}"
        try:
            answer = yield from self._ask(
                Ask("GET", path), _Trouble(self._name, f"reading {name}", ABORT_PATIENCE)
            )
        except ServerError as error:
            log.info("%s cannot be read: %s", name, error)
            return None
        return answer.content if answer.status in _OK else None

    def open_invocations(
        self,
    ) -> Generator[Ask | Renew | Pause, Any, list[RemoteInvocation] | None]:
        """
        List what waits or runs, of all clients, the newest first.

        :returns: None where the server has no such list
        :raises ServerError: when it does not answer
        """
        trouble = _Trouble(self._name, "listing invocations", POST_PATIENCE)
        found: list[RemoteInvocation] = []
        before: tuple[tuple[str, str], ...] = ()
        for _ in range(MAX_PAGES):
            params = (("state", PENDING), ("state", STARTED), ("limit", str(PAGE)), *before)
            answer = yield from self._ask(Ask("GET", "/invocations", params), trouble)
            page = page_in(answer) if answer.status in _OK else None
            if page is None:
                return None
            invocations, following = page
            found += [each for each in invocations if each.is_open]
            if following is None:
                break
            before = (("before", str(following)),)
        return found

    def _ask(self, ask: Ask, trouble: _Trouble) -> Generator[Ask | Renew | Pause, Any, Answer]:
        """Send a request until an answer comes that another try would not change."""
        while True:
            try:
                answer: Answer = yield ask
            except NoAnswer as error:
                pause = trouble.of(error)
            else:
                if not _is_worth_another_try(answer.status) and answer.status not in REDIRECTS:
                    return answer
                pause = trouble.of(answer)
            if trouble.needs_credentials:
                yield Renew()
            yield Pause(pause)


class _Trouble:
    """
    What is in the way of one thing that a server is asked for, and how long it may be.

    :param name: what to call the server
    :param what: what it is asked for, as "reading the log"
    :param patience: seconds
    """

    def __init__(self, name: str, what: str, patience: float) -> None:
        self._name = name
        self._what = what
        self._until = time.monotonic() + patience
        self._credentials_until: float | None = None
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_LIMIT, jitter=0.2)
        self.needs_credentials = False
        """Whether the last answer was that the credentials are refused."""

    @property
    def time_left(self) -> float:
        """How many seconds are left."""
        return max(1.0, self._until - time.monotonic())

    def of(self, found: Answer | NoAnswer, *, wants: str = "", is_for_now: bool = False) -> float:
        """
        Return how many seconds to wait until the next try.

        :param found: what came instead of what was wanted
        :param wants: what that is
        :param is_for_now: whether another answer may come to the same request, whatever its status says
        :raises ServerError: when no other try is worth it
        """
        now = time.monotonic()
        if isinstance(found, Answer):
            status: int | None = found.status
            words = said_in(found) if found.status not in _OK else f"{said_in(found)}, which is not {wants}"
            is_final = not (is_for_now or _is_worth_another_try(found.status) or found.status in _OK)
            self.needs_credentials = found.status in _REFUSED_CREDENTIALS
            pause = retry_after_in(found)
        else:
            status, words, is_final, pause = None, str(found), found.is_final, 0.0
            self.needs_credentials = found.are_credentials
        until = self._until
        if self.needs_credentials:
            if self._credentials_until is None:
                self._credentials_until = now + CREDENTIALS_PATIENCE
            until = min(until, self._credentials_until)
        else:
            self._credentials_until = None
        pause = max(pause, self._backoff.next())
        if is_final or now + pause > until:
            raise ServerError(f"{self._name}: {self._what}: {words}", status)
        log.warning("%s: %s: %s; retrying in %.1f s", self._name, self._what, words, pause)
        return pause


def _is_worth_another_try(status: int) -> bool:
    return status in _TRANSIENT or status in _REFUSED_CREDENTIALS
