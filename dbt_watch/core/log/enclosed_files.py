"""
The files that a container puts into its log: how they stand there, and how they are taken out again.

With `artifacts=`, the script of `authoring.artifact_script` writes each file of dbt's, compressed and as base64, in lines that begin
with `MARK`. `core.log.stream` takes these lines out before anything else sees them. A line says of which file it is a piece, and
the how many-th, so a log that is read twice, or on after a cut, gives the same. Whether a file is whole is known from the number
of its pieces, and from the checksum and the length at the end of the compressed data (RFC 1952).
"""

from __future__ import annotations

import binascii
import re
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MARK: Final = b"dbt-watch-file "

MAX_PACKED: Final = 8 * 1024 * 1024
"""How many bytes a file may have when it is compressed; the script sends no larger one."""

MAX_CONTENT: Final = 512 * 1024 * 1024
"""How many bytes a file may have otherwise: a few kilobytes can be made to unpack to as much as one likes."""

LINES_OF_A_PIECE: Final = 156
"""Lines of 76 characters, as `base64` writes them. A piece stays below the 16 KiB at which a container runtime cuts a line."""

RUN_RESULTS: Final = "run_results.json"
SOURCES: Final = "sources.json"
MANIFEST: Final = "manifest.json"
CATALOG: Final = "catalog.json"
INDEX: Final = "index.html"
COMPILED: Final = "compiled.tar"

# Nothing else is taken, whatever a log says.
NAMES: Final = (RUN_RESULTS, SOURCES, MANIFEST, CATALOG, INDEX, COMPILED)

RESULTS: Final = frozenset({RUN_RESULTS, SOURCES})
"""The files that say what became of nodes."""


class EnclosedFile(msgspec.Struct, frozen=True):
    """
    A file that was found whole.

    :param name: one of `NAMES`
    :param packed: its content, compressed with gzip
    :param content: the same as dbt wrote it
    """

    name: str
    packed: bytes
    content: bytes


class EnclosedFiles:
    """
    Collects the files of one log.

    :param only: the names of those that are kept; the lines of others are taken out as well
    :ivar tail: how many lines the log has from the first that belongs to a file
    """

    __slots__ = ("_only", "_parts", "tail")

    def __init__(self, only: Collection[str] = NAMES) -> None:
        self._only = frozenset(only).intersection(NAMES)
        self._parts: dict[str, _Parts] = {}
        self.tail = 0

    def sift(self, lines: list[bytes]) -> list[bytes]:
        """Take the lines of files; return the others, in their order."""
        rest = [line for line in lines if not line.startswith(MARK)]
        if len(rest) < len(lines):
            for line in lines:
                if line.startswith(MARK):
                    self._take(line)
        elif not self.tail:
            return lines
        self.tail += len(lines)
        return rest

    def content(self, name: str) -> bytes | None:
        """Return the content of a file; None when it has not arrived, or not whole."""
        parts = self._parts.get(name)
        found = parts.file(name) if parts is not None else ""
        return None if isinstance(found, str) else found.content

    @property
    def results(self) -> bytes | None:
        """Dbt's own results of a build, or else of a check of sources; None when there are none."""
        return self.content(RUN_RESULTS) or self.content(SOURCES)

    def found(self) -> tuple[list[EnclosedFile], dict[str, str]]:
        """Return the files that are whole, and for each other one of which the log speaks, why there is none."""
        files, missing = [], {}
        for name, parts in self._parts.items():
            found = parts.file(name)
            if isinstance(found, str):
                missing[name] = found
            else:
                files.append(found)
        return files, missing

    def _take(self, line: bytes) -> None:
        match = _LINE.fullmatch(line)
        name = match["name"].decode() if match is not None else ""
        if match is None or name not in self._only:
            return
        parts = self._parts.setdefault(name, _Parts())
        if match["none"] is not None:
            parts.reason = match["none"].decode(errors="replace").strip()
        elif match["count"] is not None:
            parts.count = int(match["count"])
        else:
            parts.add(int(match["number"]), match["piece"])


class _Parts:
    """What has arrived of one file."""

    __slots__ = ("count", "pieces", "reason", "size")

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.size = 0
        self.count: int | None = None
        self.reason = ""

    def add(self, number: int, piece: bytes) -> None:
        if number in self.pieces or self.size > MAX_PACKED:
            return
        try:
            decoded = binascii.a2b_base64(piece)
        except binascii.Error:
            return  # it counts as missing
        self.pieces[number] = decoded
        self.size += len(decoded)

    def file(self, name: str) -> EnclosedFile | str:
        """Return the file, or why there is none."""
        if self.reason:
            return self.reason
        if self.size > MAX_PACKED:
            return f"it has more than {MAX_PACKED} bytes when compressed"
        if self.count is None:
            return "the log ends before the end of the file"
        lost = self.count - sum(number < self.count for number in self.pieces)
        if lost or not self.count:
            return f"{lost} of its {self.count} pieces in the log are missing"
        packed = b"".join(self.pieces[number] for number in range(self.count))
        content = unpacked(packed)
        return content if isinstance(content, str) else EnclosedFile(name, packed, content)


def unpacked(packed: bytes, limit: int = MAX_CONTENT) -> bytes | str:
    """
    Return what gzip has compressed, or what is wrong with it.

    :param packed: one member, as `gzip -c` writes it
    :param limit: how many bytes there may be
    """
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = decompressor.decompress(packed, limit)
    except zlib.error as error:
        return f"it is damaged: {error}"
    if not decompressor.eof:
        is_long = bool(decompressor.unconsumed_tail)
        return f"it has more than {limit} bytes" if is_long else "it is damaged: its end is missing"
    return "it is damaged: there is data after its end" if decompressor.unused_data else content


def lines_of(name: str, packed: bytes) -> Iterable[bytes]:
    """Return the lines in which a file stands in a log, as the script writes them; for tests and figures."""
    text = binascii.b2a_base64(packed, newline=False)
    width = LINES_OF_A_PIECE * 76
    pieces = [text[start : start + width] for start in range(0, len(text), width)]
    for number, piece in enumerate(pieces):
        yield b"%s%s %d %s" % (MARK, name.encode(), number, piece)
    yield b"%s%s end %d" % (MARK, name.encode(), len(pieces))


# Numbers of six digits: a file of `MAX_PACKED` bytes has less than a thousand pieces.
_LINE: Final = re.compile(
    re.escape(MARK)
    + rb"(?P<name>[a-z_.]{1,40}) (?:none (?P<none>.{1,2000})|end (?P<count>\d{1,6})|(?P<number>\d{1,6}) (?P<piece>[A-Za-z0-9+/=]+))",
    re.DOTALL,
)
