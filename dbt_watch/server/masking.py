"""
Keeps secrets out of what the server shows: logs, artifacts, error messages, command lines.

The values of variables that a project takes from the server's environment are secret, and so is what stands under a name such as
`password` among its variables or in the `--vars` and `--args` of a command.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"passw|passphrase|secret|token|api_?key|private_?key|credential|authorization", re.IGNORECASE
)
# A shorter value, such as `1` or `dev`, would be masked wherever a log has it by chance.
_SHORTEST: Final = 4
# The options of dbt whose value is a mapping.
_MAPPINGS: Final = frozenset({"--vars", "--args"})
_HIDDEN: Final = "a mapping that cannot be read"


def is_secret_name(name: str) -> bool:
    """Return whether what stands under a name is secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_of(env: Mapping[str, str], env_from: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """
    Return the texts that nobody may see.

    :param env: variables of which some have names of secrets
    :param env_from: variables of which all are secret
    :param command: the command line of dbt
    """
    values = [value for name, value in env.items() if is_secret_name(name)]
    values += env_from.values()
    for option, text in _mappings_in(command):
        values += [str(value) for value in _secret_values(_mapping(option, text))]
    return sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True)


def shown_command(command: Sequence[str]) -> list[str]:
    """Return a command line with the secrets of its mappings masked; a mapping that cannot be read is masked whole."""
    # What stands under the name of a secret may stand elsewhere too.
    masker = Masker(secrets_of({}, {}, command))
    words, previous = [], ""
    for word in command:
        option, equals, value = word.partition("=")
        if previous in _MAPPINGS:
            words.append(masker.text(_shown_mapping(previous, word)))
        elif equals and option in _MAPPINGS:
            words.append(masker.text(f"{option}={_shown_mapping(option, value)}"))
        else:
            words.append(masker.text(word))
        previous = word
    return words


class Masker:
    """
    Replaces secrets in bytes, also where a program has written them into JSON.

    :param secrets: the texts, the longest first
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {
            form for text in secrets for form in (text, json.dumps(text)[1:-1], json.dumps(json.dumps(text)[1:-1])[1:-1])
        }  # fmt: skip
        ordered = sorted((form.encode(errors="surrogateescape") for form in forms), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None
        self.overlap = max(map(len, ordered), default=1) - 1
        """How many bytes at the end of a piece may be the beginning of a secret that goes on in the next one."""

    def __call__(self, data: bytes) -> bytes:
        """Return the data with each secret masked."""
        return data if self._pattern is None else self._pattern.sub(MASK.encode(), data)

    def text(self, text: str) -> str:
        """Return a text with each secret masked."""
        return self(text.encode(errors="surrogateescape")).decode(errors="replace")


def _mappings_in(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in itertools.zip_longest(command, command[1:], fillvalue=""):
        option, equals, value = word.partition("=")
        if option in _MAPPINGS:
            yield option, value if equals else following


def _mapping(option: str, text: str) -> Any:
    try:
        return msgspec.yaml.decode(text.encode())
    except (msgspec.MsgspecError, ValueError):
        return {option: text, "secret": text} if is_secret_name(text) else {}


def _secret_values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, part in value.items():
            if is_secret_name(str(name)):
                yield from _leaves(part)
            else:
                yield from _secret_values(part)
    elif isinstance(value, list):
        for part in value:
            yield from _secret_values(part)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def _shown_mapping(option: str, text: str) -> str:
    if not is_secret_name(text):
        return text
    try:
        value = msgspec.yaml.decode(text.encode())
    except (msgspec.MsgspecError, ValueError):
        return f"{MASK} ({_HIDDEN})"
    return (
        json.dumps(_masked(value, hidden=False), default=str)
        if isinstance(value, dict)
        else f"{option}: {MASK}"
    )


def _masked(value: Any, *, hidden: bool) -> Any:
    if isinstance(value, dict):
        return {
            name: _masked(part, hidden=hidden or is_secret_name(str(name))) for name, part in value.items()
        }
    if isinstance(value, list):
        return [_masked(part, hidden=hidden) for part in value]
    return MASK if hidden else value
