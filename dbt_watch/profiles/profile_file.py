"""
profiles.yml as text, and the secrets that it reads from the environment of dbt.

A secret stands in the file as `{{ env_var('DBT_ENV_SECRET_...') }}`: dbt writes `*****` wherever such a value would stand in its log.
It does so in each line as a whole, so a password that is a part of a node's name would take the node out of the log, and one that is
a plain word might take a key out of a record; such a one, or a short one, stands in the file itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

FILE_NAME: Final = "profiles.yml"
PREFIX: Final = "DBT_ENV_SECRET_PROFILE"

# In characters.
SHORTEST_HIDDEN: Final = 8
SHORTEST_PART: Final = 4
SHORTEST_LINE: Final = 16


@dataclass(frozen=True, slots=True, repr=False)
class ProfileFile:
    """
    A profiles.yml.

    :param text: of the file
    :param variables: the environment variables that it reads, with the secrets
    :param secrets: whatever must not be shown: these, others that stand in the file, and parts of both
    """

    text: str
    variables: Mapping[str, str]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<ProfileFile with {len(self.variables)} variables>"


def write_profile(
    name: str,
    target: str,
    output: Mapping[str, Any],
    *,
    verbatim: Mapping[str, Any] | None = None,
    known_secrets: Iterable[str] = (),
    names: Iterable[str] = (),
) -> ProfileFile:
    """
    Return the file of one profile with one output.

    :param name: of the profile
    :param target: of the output
    :param output: its fields, whose texts are what they are: nothing in them is a template of dbt's
    :param verbatim: more fields, which win, and in whose texts dbt may render templates
    :param known_secrets: secrets, whatever the field is called that they stand in
    :param names: of nodes, which must stay in dbt's log
    :raises TypeError: when a value can be no part of such a file
    """
    writer = _Writer(tuple(known_secrets), tuple(names))
    fields = {
        **{name: value for name, value in output.items() if name not in (verbatim or {})},
        **(verbatim or {}),
    }
    written = {
        field: writer.write(value, (field,), is_verbatim=field in (verbatim or {}))
        for field, value in fields.items()
    }
    profile = {name: {"target": target, "outputs": {target: written}}}
    # JSON is YAML, but that YAML takes some letters for ends of lines or not at all.
    text = json.dumps(profile, ensure_ascii=False, indent=2, allow_nan=False)
    text = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return ProfileFile(text + "\n", writer.variables, tuple(dict.fromkeys(forms_of(writer.secrets))))


def is_secret_name(name: str) -> bool:
    """Return whether what stands under a name in a profile or a connection is a secret."""
    return _SECRET_NAME.search(name.lower()) is not None


def secrets_of(connection: Any) -> list[str]:
    """
    Return what is secret in an Airflow connection: its password, and what stands under the name of a secret in its extra.

    :param connection: see `AirflowConnection`
    """
    found = [connection.password] if connection.password else []
    return [*found, *_secrets_in(connection.extra_dejson)]


def forms_of(secrets: Iterable[str]) -> Iterator[str]:
    """Yield secrets, the longer lines of those that have several, and how Kubernetes' API writes them."""
    for secret in secrets:
        yield secret
        yield base64.b64encode(secret.encode()).decode()
        lines = secret.splitlines()
        if len(lines) > 1:
            yield from (line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("--"))


@dataclass(slots=True)
class _Writer:
    known: tuple[str, ...]
    names: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def write(self, value: Any, path: tuple[str, ...], *, is_verbatim: bool) -> Any:
        """Return a value as it stands in the file."""
        if isinstance(value, Mapping):
            return {
                str(name): self.write(part, (*path, str(name)), is_verbatim=is_verbatim)
                for name, part in value.items()
            }
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [
                self.write(part, (*path, str(number)), is_verbatim=is_verbatim)
                for number, part in enumerate(value)
            ]
        if value is None or isinstance(value, bool):
            return value
        if not isinstance(value, str | int | float):
            raise TypeError(f"{'.'.join(path)}: a {type(value).__name__}")
        return self._leaf(value, path, is_verbatim=is_verbatim)

    def _leaf(self, value: str | float, path: tuple[str, ...], *, is_verbatim: bool) -> Any:
        text = str(value)
        if is_verbatim and has_template(text):
            return value
        if not self._is_secret(text, path):
            return literal(value) if isinstance(value, str) else value
        self.secrets.append(text)
        if not self._can_be_hidden(text):
            return literal(text)
        variable = self._variable(path)
        self.variables[variable] = text
        return f"{{{{ env_var('{variable}') }}}}"

    def _is_secret(self, text: str, path: tuple[str, ...]) -> bool:
        if not text or path == ("type",):
            return False
        # Of a list, the name is that of the list.
        name = next((part for part in reversed(path) if not part.isdecimal()), "")
        return is_secret_name(name) or any(
            secret in text for secret in self.known if len(secret) >= SHORTEST_PART
        )

    def _can_be_hidden(self, text: str) -> bool:
        """Return whether nothing is lost where dbt writes asterisks for a text."""
        is_word = _WORD.fullmatch(text) is not None
        return len(text) >= SHORTEST_HIDDEN and not is_word and not any(text in name for name in self.names)

    def _variable(self, path: tuple[str, ...]) -> str:
        whole = "_".join((PREFIX, *path))
        base = name = _NOT_OF_A_NAME.sub("_", whole.upper())
        number = 1
        while name in self.variables:
            number += 1
            name = f"{base}_{number}"
        return name


def has_template(text: str) -> bool:
    """Return whether dbt would render something in a text."""
    return any(start in text for start in ("{{", "{%", "{#"))


def literal(text: str) -> str:
    """Return a text as dbt renders it to itself."""
    return text.replace("{", "{{ '{' }}") if has_template(text) else text


def _secrets_in(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _secrets_in(part, str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _secrets_in(part, name)
    elif isinstance(value, str) and value:
        if value.lstrip().startswith("{"):
            # A key file as text within the extra.
            try:
                yield from _secrets_in(json.loads(value), name)
            except ValueError:
                pass
            else:
                return
        if is_secret_name(name):
            yield value


# At the end of a name: a `token_uri`, a `private_key_path` and an `access_key_id` are none.
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:pass|passw|passwd|password|passphrase|pwd|secret|secrets|token|private_key|private_key_content|api_?key"
    r"|access_key|credentials|dsn)$"
)
_WORD: Final = re.compile(r"[a-z_]+")
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Z0-9]+")
_UNSAFE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
