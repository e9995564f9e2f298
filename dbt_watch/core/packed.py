"""
Large values for XCom: JSON, compressed, and cut into pieces that any XCom backend takes.

The first piece says how many there are, and is written last: whoever finds it finds the others. `core.run_notes` packs and
unpacks with it.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.text import one_line
from dbt_watch.exceptions import DbtWatchError

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT: Final = 1
"""Counts the changes of the format; a reader refuses any other."""
PIECE_CHARS: Final = 48 * 1024
"""How long a piece may be: what any XCom backend takes."""
MAX_PIECES: Final = 24
"""How many pieces a value may have, which is 1.1 MB of text."""
MAX_BYTES: Final = 64 << 20
"""How large the JSON may be that is unpacked."""

_HEAD_CHARS: Final = 200
# In front of a piece, so that nobody on its way takes one that is short for a number in JSON.
_MARK: Final = "~"


class PackedError(DbtWatchError):
    """A value was not packed by this version, or is damaged, or too large."""


class _Head(msgspec.Struct, frozen=True):
    format: int
    attempt: int
    pieces: int
    data: str


def pack(key: str, value: Any, attempt: int) -> list[tuple[str, str]]:
    """
    Return the XComs that hold a value, in the order in which to write them.

    :param key: that of the first piece; those of the others have it in front
    :param value: what msgspec can encode
    :param attempt: which attempt of the task writes it
    :raises PackedError: when it takes too many pieces
    """
    text = base64.b64encode(zlib.compress(msgspec.json.encode(value), 6)).decode()
    room = PIECE_CHARS - _HEAD_CHARS
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    if len(pieces) > MAX_PIECES:
        raise PackedError(f"{key} takes {len(pieces)} pieces; {MAX_PIECES} are allowed")
    head = _Head(FORMAT, attempt, len(pieces), pieces[0])
    rest = [(piece_key(key, number), f"{_MARK}{piece}") for number, piece in enumerate(pieces[1:], 1)]
    return [*rest, (key, msgspec.json.encode(head).decode())]


def piece_key(key: str, number: int) -> str:
    """Return the key of a piece, counted from 0."""
    return key if number == 0 else f"{key}_{number}"


def attempt_in(value: Any) -> int:
    """
    Return which attempt of the task wrote a value.

    :param value: the first piece, as XCom gives it back
    :raises PackedError: when it is none
    """
    return _head(value).attempt


def unpack(value: Any, ask: Callable[[int], Any]) -> bytes:
    """
    Return the JSON of a value.

    :param value: the first piece, as XCom gives it back
    :param ask: returns another piece by its number; None where it is not there
    :raises PackedError: when something is missing, damaged or too large
    """
    head = _head(value)
    if not 1 <= head.pieces <= MAX_PIECES:
        raise PackedError(f"{head.pieces} pieces")
    pieces = [head.data, *(ask(number) for number in range(1, head.pieces))]
    if not all(isinstance(piece, str) for piece in pieces):
        raise PackedError("a piece is missing")
    text = "".join(piece.removeprefix(_MARK) for piece in pieces)
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise PackedError(f"damaged: {error}") from error
    if not unpacker.eof:
        raise PackedError("truncated, or too large")
    return content


def _head(value: Any) -> _Head:
    try:
        head = (
            msgspec.json.decode(value, type=_Head)
            if isinstance(value, str)
            else msgspec.convert(value, _Head)
        )
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PackedError(f"not a packed value: {one_line(str(error), 200)}") from error
    if head.format != FORMAT:
        raise PackedError(f"format {head.format}; this version reads {FORMAT} only")
    return head
