"""
An Airflow connection as the warehouses read it: by the names of its fields, with an error that names what is missing.

No error here ever holds a value that may be secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_FILE: Final = 64 * 1024
"""In bytes, of a file that a connection names: they are keys."""


class AirflowConnection(Protocol):
    """As much of Airflow's connection as is read here."""

    @property
    def conn_id(self) -> str:
        """Its id."""

    @property
    def conn_type(self) -> str | None:
        """What it is a connection to, such as "postgres"."""

    @property
    def host(self) -> str | None:
        """The server."""

    @property
    def schema(self) -> str | None:
        """The database, or what else a provider makes of this field."""

    @property
    def login(self) -> str | None:
        """The user."""

    @property
    def password(self) -> str | None:
        """The password, or what else proves who one is."""

    @property
    def port(self) -> int | None:
        """The port."""

    @property
    def extra_dejson(self) -> Mapping[str, Any]:
        """The extra, as a mapping."""


class ConnectionFields:
    """
    The fields of a connection.

    :param connection: Airflow's
    :param type: of the profile that is made, such as "postgres"; for errors
    :param schema: in which dbt builds, where the author has said so
    :param given: the fields of the profile that the author gives, which need not be in the connection
    :param prefix: what the names of extras may have in front, as they had in early versions of a provider
    :param read: reads a file of this machine that the connection names
    """

    def __init__(
        self,
        connection: AirflowConnection,
        type: str,  # noqa: A002 - dbt's own word
        *,
        schema: str | None = None,
        given: Mapping[str, Any] | None = None,
        prefix: str = "",
        read: Callable[[str], str] | None = None,
    ) -> None:
        self.host = connection.host or None
        self.login = connection.login or None
        self.password = connection.password or None
        self.port = connection.port or None
        self.connection_schema = connection.schema or None
        self.conn_type = (connection.conn_type or "").lower().replace("-", "_")
        self.schema = schema
        self._conn_id = connection.conn_id
        self._type = type
        self._extras = connection.extra_dejson
        self._given = given or {}
        self._prefix = f"extra__{prefix}__" if prefix else ""
        self._read = read or read_key_file

    def of_extra(self, name: str) -> Any:
        """Return a value of the extra; None where it is not there, or empty."""
        value = self._extras.get(name)
        if value in _EMPTY and self._prefix:
            value = self._extras.get(f"{self._prefix}{name}")
        return None if value in _EMPTY else value

    def is_on(self, name: str) -> bool:
        """Return whether a switch of the extra is on, which may be written as text."""
        value = self.of_extra(name)
        return value.strip().lower() in _TRUE if isinstance(value, str) else bool(value)

    def all_of_extra(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return values of the extra under the names that they have in a profile, as far as they are there."""
        found = {field: self.of_extra(name) for name, field in names.items()}
        return {field: value for field, value in found.items() if value is not None}

    def need(self, field: str, value: Any, name: str, what: str) -> Any:
        """
        Return a value that a profile cannot do without; None where the author gives it.

        :param field: its name in the profile
        :param value: what the connection says
        :param name: its name in the connection
        :param what: what it is, as a phrase ("the address of the server")
        :raises ArgumentError: when the connection does not have it
        """
        if value is None and field not in self._given:
            raise ArgumentError(
                f"connection {self._conn_id}: {name}",
                None,
                f"{what}, for `{field}` of dbt's {self._type} profile; or DbtProfile(..., extra={{{field!r}: ...}})",
            )
        return value

    def need_schema(self, value: str | None = None) -> str:
        """
        Return the schema that dbt builds in.

        :param value: what the connection says
        :raises ArgumentError: when neither the author nor the connection says it
        """
        schema = self.schema or value
        if schema is None:
            where = f"connection {self._conn_id}: schema"
            raise ArgumentError(where, None, "the schema that dbt builds in; or DbtProfile(..., schema=...)")
        return schema

    def wrong(self, name: str, expected: str) -> ArgumentError:
        """
        Return the error for a value that is there and cannot be used; the value itself is not shown.

        :param name: of the field of the connection
        :param expected: what would be right
        """
        return ArgumentError(f"connection {self._conn_id}: {name}", Given(), expected)

    def file(self, name: str, path: str) -> str:
        """
        Return the content of a file that the connection names, as Airflow's own hook would read it: on this machine.

        :param name: the field that names it
        :param path: where it is
        :raises ArgumentError: when it cannot be read
        """
        try:
            return self._read(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise ArgumentError(
                f"connection {self._conn_id}: {name}",
                path,
                f"a text file that this worker can read, of at most {MAX_FILE // 1024} KiB ({why})",
            ) from None


class Given:
    """Stands in an error for a value that may be secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "..."


def read_key_file(path: str) -> str:
    """
    Return the content of a file.

    :raises OSError: when it cannot be read
    :raises ValueError: when it is too long, or no text
    """
    with Path(path).open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError(path)
    return content.decode()


def present(**values: Any) -> dict[str, Any]:
    """Return those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


_EMPTY: Final = (None, "")
_TRUE: Final = frozenset({"true", "1", "yes", "on", "t", "y"})
