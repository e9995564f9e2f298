"""`DbtProfile`: the credentials of a project's pods, from an Airflow connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.profiles.connection_fields import AirflowConnection, ConnectionFields, Given
from dbt_watch.profiles.profile_file import ProfileFile, secrets_of, write_profile
from dbt_watch.profiles.warehouses import GENERIC, WAREHOUSES

PROFILES_DIR: Final = "/etc/dbt-watch"
"""Where a pod finds its profiles.yml."""

ToProfile = Callable[[Any], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class DbtProfile:
    """
    A dbt profile, generated from an Airflow connection when the task runs and passed to each pod in a Secret of its own.

    `conn_id`, `schema` and `target` may be templates.

    :param conn_id: the id of the connection
    :param type: dbt's adapter, such as "postgres"; by default the one in the manifest
    :param schema: the schema (in BigQuery: dataset) that dbt builds in; if the connection has a field for it, defaults to that
    :param threads: how many nodes dbt builds in parallel; `dbt_build(threads=...)` overrides it
    :param target: the name of the output, unless `dbt_build(target=...)` sets it
    :param name: the name of the profile; by default the project's
    :param extra: more fields of the output, which override those from the connection; dbt renders templates in them, such as
        `{{ env_var('...') }}`
    :param to_profile: turns Airflow's connection into the fields of the output, for an unsupported warehouse; runs in the
        task, and returns a dict
    :raises ArgumentError: when one of them is invalid
    """

    conn_id: str
    type: str | None = dataclasses.field(default=None, kw_only=True)
    schema: str | None = dataclasses.field(default=None, kw_only=True)
    threads: int | None = dataclasses.field(default=None, kw_only=True)
    target: str = dataclasses.field(default="default", kw_only=True)
    name: str | None = dataclasses.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, kw_only=True, hash=False)
    to_profile: ToProfile | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for field in ("conn_id", "target"):
            _check_text(field, getattr(self, field), "text")
        for field in ("type", "schema", "name"):
            if getattr(self, field) is not None:
                _check_text(field, getattr(self, field), "text, or None")
        threads = self.threads
        if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
            raise ArgumentError("DbtProfile: threads", threads, "a number of threads, 1 or more, or None")
        if self.to_profile is not None and not callable(self.to_profile):
            raise ArgumentError(
                "DbtProfile: to_profile", self.to_profile, "a function that takes a connection"
            )
        self._check_extra()
        if self.type is not None and self.to_profile is None:
            self._check_type("DbtProfile: type", self.type)

    def _check_extra(self) -> None:
        if not isinstance(self.extra, Mapping) or not all(isinstance(name, str) for name in self.extra):
            raise ArgumentError("DbtProfile: extra", Given(), "a dict of fields of dbt's profile")
        for name in _OWN_ARGUMENTS:
            if name in self.extra:
                raise ArgumentError(f"DbtProfile: extra[{name!r}]", Given(), f"DbtProfile(..., {name}=...)")

    def _check_type(self, argument: str, value: str) -> None:
        if value not in WAREHOUSES:
            raise ArgumentError(
                argument,
                value,
                f"one of {', '.join(WAREHOUSES)}, or a function to_profile that makes a profile from a connection",
                known=WAREHOUSES,
            )

    def __repr__(self) -> str:
        # Of what the author may have written a secret into, only the names.
        shown = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in {"extra", "to_profile"} and getattr(self, field.name) != field.default
        }
        words = [f"{name}={value!r}" for name, value in shown.items()]
        if self.extra:
            words.append(f"extra={{{', '.join(f'{name!r}: ...' for name in self.extra)}}}")
        if self.to_profile is not None:
            words.append(f"to_profile={getattr(self.to_profile, '__qualname__', '...')}")
        return f"DbtProfile({', '.join(words)})"

    def check_for(self, adapter_type: str | None) -> None:
        """
        Check what can be known while a DAG is parsed.

        :param adapter_type: the adapter in the manifest
        :raises ArgumentError: when the adapter is unknown, or no connection to its warehouse has a field for the schema
        """
        if self.to_profile is not None:
            return
        kind = self._type(adapter_type)
        if self.schema is None and not WAREHOUSES[kind].has_schema:
            raise ArgumentError(
                "profile", self, f"a schema=... for dbt to build in: a {kind} connection has no field for it"
            )

    def _type(self, adapter_type: str | None) -> str:
        kind = self.type or adapter_type
        if kind is None:
            raise ArgumentError("profile", self, "a type=...: the manifest does not name the adapter")
        if self.to_profile is None:
            self._check_type("the adapter of the manifest", kind)
        return kind

    def rendered(self, render: Callable[[str], Any]) -> DbtProfile:
        """
        Return the same without templates.

        :param render: renders a template
        :raises ArgumentError: when one of them does not render to text
        """
        values = {"conn_id": self.conn_id, "schema": self.schema, "target": self.target}
        return dataclasses.replace(
            self, **{name: render(value) for name, value in values.items() if value is not None}
        )

    def output(self, connection: AirflowConnection, *, adapter_type: str | None = None) -> dict[str, Any]:
        """
        Return the fields of the output that come from a connection, without those of `extra`.

        :param connection: Airflow's connection
        :param adapter_type: the adapter in the manifest
        :raises ArgumentError: naming the connection and what is missing or invalid, without values that may be secret
        """
        own: dict[str, Any] = {} if self.threads is None else {"threads": self.threads}
        if self.to_profile is None:
            kind = self._type(adapter_type)
            return {"type": kind, **self._by_kind(connection, kind), **own}
        made = self._by_function(connection)
        if self.schema is not None:
            own["schema"] = self.schema
        return {**made, "type": self.type or made.get("type") or self._type(adapter_type), **own}

    def _by_kind(self, connection: AirflowConnection, kind: str) -> dict[str, Any]:
        warehouse = WAREHOUSES[kind]
        fields = ConnectionFields(
            connection, kind, schema=self.schema, given=self.extra, prefix=warehouse.prefix
        )
        if fields.conn_type not in {*warehouse.conn_types, GENERIC}:
            raise ArgumentError(
                f"connection {self.conn_id}: conn_type",
                connection.conn_type,
                f"{' or '.join(warehouse.conn_types)}: dbt's profile is one of {kind}",
            )
        return warehouse.output(fields)

    def _by_function(self, connection: AirflowConnection) -> dict[str, Any]:
        assert self.to_profile is not None  # noqa: S101 - asked before
        made = self.to_profile(connection)
        if not isinstance(made, Mapping) or not all(isinstance(name, str) for name in made):
            raise ArgumentError("DbtProfile: to_profile", Given(), "a function that returns a dict of fields")
        return dict(made)

    def file(
        self,
        connection: AirflowConnection,
        *,
        adapter_type: str | None = None,
        project_name: str = "",
        target: str | None = None,
        names: tuple[str, ...] = (),
    ) -> ProfileFile:
        """
        Return profiles.yml.

        :param connection: Airflow's connection
        :param adapter_type: the adapter in the manifest
        :param project_name: the name of the project
        :param target: the target that dbt is called with, if any
        :param names: node names, which must stay in dbt's log
        :raises ArgumentError: see `output`
        """
        output = self.output(connection, adapter_type=adapter_type)
        try:
            return write_profile(
                self.profile_name(project_name),
                target or self.target,
                output,
                verbatim=self.extra,
                known_secrets=secrets_of(connection),
                names=(*names, output["type"]),
            )
        except (TypeError, ValueError) as error:
            why = str(error) if isinstance(error, TypeError) else type(error).__name__
            raise ArgumentError(
                "DbtProfile",
                Given(),
                f"fields that YAML can represent: text, numbers, lists, dicts ({why})",
            ) from None

    def profile_name(self, project_name: str) -> str:
        """Return the name of the profile that dbt is called with."""
        return self.name or project_name or "dbt_watch"


_OWN_ARGUMENTS: Final = ("type", "schema", "threads")


def _check_text(field: str, value: Any, expected: str) -> None:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"DbtProfile: {field}", value, expected)
