"""
What the answers of a server of dbt say, whichever kind of server it is. `producers.api.protocol` asks.

Servers differ in what they leave out, and what stands in front of one may answer in its place, so an answer is believed only as far as
it has the form of the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dbt_watch.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WORDS: Final = 300
"""How much of what a server says of an error is shown, in characters."""
LONGEST_RETRY_AFTER: Final = 120.0
"""How long a server may ask to be left alone, in seconds."""
REDIRECTS: Final = range(300, 400)

PENDING: Final = "PENDING"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
ABORTED: Final = "ABORTED"
NOT_FOUND: Final = "NOT_FOUND"
INTERNAL_ERROR: Final = "INTERNAL_ERROR"
OPEN: Final = frozenset({PENDING, STARTED})
STATES: Final = OPEN | {SUCCESS, FAILURE, ABORTED, NOT_FOUND, INTERNAL_ERROR}


class Answer(NamedTuple):
    """
    What a server has answered.

    :param status: of HTTP
    :param headers: by their names in lower case
    :param content: as it is
    :param seconds: how long that took
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float = 0.0


class RemoteInvocation(msgspec.Struct, frozen=True, kw_only=True):
    """
    An invocation, as a server tells of it.

    :param task_id: the server's id of it
    :param state: one of the seven of the contract
    :param exc_type: why it did not end well, in a word
    :param exc_message: likewise, in a sentence
    :param exit_code: of dbt, where it is told
    :param created_at: when it was taken, in seconds since the epoch, where that is told
    :param abort_requested: whether somebody has asked for its end
    :param log_content: its whole log so far, where the server gives it so
    :param seconds: how long this answer took
    """

    task_id: str
    state: str
    exc_type: str | None = None
    exc_message: str | None = None
    exit_code: int | None = None
    created_at: float | None = None
    abort_requested: bool = False
    log_content: str | None = None
    seconds: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in OPEN

    @property
    def why(self) -> str:
        """Why it did not end well, in one line; empty where that is not told."""
        return one_line(": ".join(filter(None, (self.exc_type, self.exc_message))), MAX_WORDS)


def said_in(answer: Answer) -> str:
    """Return an answer in one line: its status, and its words as far as they are for people."""
    if answer.status in REDIRECTS:
        where = answer.headers.get("location", "").partition("?")[0]
        return f"HTTP {answer.status}: redirected to {one_line(where, MAX_WORDS)}; put this address into the connection"
    try:
        said = msgspec.json.decode(answer.content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = answer.content[: 4 * MAX_WORDS].decode(errors="replace")
        words = one_line(text, MAX_WORDS) if "<html" not in text.lower() else "a page of HTML"
    else:
        found = [said.get(key) for key in ("message", "detail", "error")] if isinstance(said, dict) else []
        words = one_line(next((str(each) for each in found if each), ""), MAX_WORDS)
    return f"HTTP {answer.status}: {words}" if words else f"HTTP {answer.status}"


def retry_after_in(answer: Answer) -> float:
    """Return how many seconds a server asks to be left alone; 0 where it asks for none."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_RETRY_AFTER) if text.isdecimal() else 0.0


def values_in(answer: Answer) -> Any:
    """Return the JSON of an answer; None when it is none."""
    try:
        return msgspec.json.decode(answer.content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def invocation_in(answer: Answer, task_id: str) -> RemoteInvocation | None:
    """Return the invocation of an answer; None when there is none in it."""
    return _from_values(values_in(answer), task_id, answer.seconds)


def _from_values(values: Any, task_id: str, seconds: float = 0.0) -> RemoteInvocation | None:
    if not isinstance(values, dict):
        return None
    # What a server says when it has taken one need not hold its state.
    state = values.get("state", PENDING)
    given = values.get("task_id", task_id)
    if not isinstance(state, str) or not isinstance(given, str) or not given:
        return None
    if not ({"task_id", "state"} & values.keys()):
        return None
    return RemoteInvocation(
        task_id=given,
        state=state.upper(),
        exc_type=_of(values, "exc_type", str),
        exc_message=_of(values, "exc_message", str),
        exit_code=_of(values, "exit_code", int),
        created_at=_of(values, "created_at", float, int),
        abort_requested=values.get("abort_requested") is True,
        log_content=_log_content(values.get("log_content")),
        seconds=seconds,
    )


def _of(values: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = values.get(name)
    return value if isinstance(value, kinds) and not isinstance(value, bool) else None


def _log_content(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value if isinstance(value, str) else None


def page_in(answer: Answer) -> tuple[list[RemoteInvocation], int | None] | None:
    """Return the invocations of a page, and where the next one begins; None when it is none."""
    values = values_in(answer)
    listed: Any = values.get("invocations") if isinstance(values, dict) else values
    if not isinstance(listed, list):
        return None
    found = [_from_values(each, "") for each in listed]
    following = values.get("next") if isinstance(values, dict) else None
    return [each for each in found if each is not None], following if isinstance(following, int) else None
