"""
How values stand in a plan: nothing that is secret, and templates and references as they are written.

`rendering.project_planner` asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from dbt_watch.airflow.secrets import redact
from dbt_watch.core.command import Unrendered, is_literal
from dbt_watch.core.event_time import VARIABLES, as_planned
from dbt_watch.producers.secrets import secrets_in
from dbt_watch.rendering.pod_tasks import references


class Hidden:
    """
    The texts that Airflow would not show: values under such names as `password`.

    :param variables: of containers, in any form that the operator takes
    :param values: the variables of dbt, for some builds
    """

    def __init__(self, variables: Iterable[Any], values: Iterable[Any]) -> None:
        secrets: set[str] = set()
        for given in [*(dict(_variables(item)) for item in variables), *_distinct(values)]:
            secrets.update(secrets_in({name: value for name, value in given.items() if is_literal(value)}))
        long = (secret for secret in secrets if len(secret) >= _SHORTEST)
        self._secrets = sorted(long, key=len, reverse=True)

    def of(self, text: str) -> str:
        """Return a text without them, as a plain string."""
        text = str(text)
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


_MASK: Final = "***"
# As short as what Airflow masks (`[logging] min_length_masked_secret`): a shorter text may stand anywhere.
_SHORTEST: Final = 5


def _distinct(values: Iterable[Any]) -> Iterable[Mapping[str, Any]]:
    """Yield the mappings among some values, those with the same names once: they differ in what is known when a pod begins."""
    found = {tuple(item): item for item in values if isinstance(item, Mapping)}
    return found.values()


def as_written(build: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a build with templates and references as text; of the variables there is no value in a command."""
    options = {name: _option(value) for name, value in build.items()}
    if (times := as_planned(build)) is not None:
        start, end = map(Unrendered, times)
        options |= {"event_time_start": start, "event_time_end": end}
    if build.get(VARIABLES):
        options["vars"] = {}
    if options.get("vars") not in _NO_VARS:
        options["vars"] = {}
    return options


_NO_VARS: Final = (None, "")


def _option(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_option(item) for item in value]
    return value if is_literal(value) else Unrendered(written(value))


def written(value: Any) -> str:
    """Return a value as it stands in a DAG file, as nearly as that is known."""
    if isinstance(value, str):
        return str(value)
    if not is_literal(value):
        text = str(value)
        if text.startswith("{{"):
            return text
        names = sorted({task.task_id for task in references(value)})
        return "{{ " + (f"what {' and '.join(names)} returns" if names else "one of several values") + " }}"
    if isinstance(value, Sequence):
        return " ".join(map(written, value))
    return str(value)


def _variables(env_vars: Any) -> Iterable[tuple[str, Any]]:
    """Yield the environment variables of a container, in any of the forms that the operator takes."""
    if isinstance(env_vars, Mapping):
        yield from env_vars.items()
    elif isinstance(env_vars, Iterable) and not isinstance(env_vars, str):
        for item in env_vars:
            yield getattr(item, "name", ""), getattr(item, "value", None)


def names_of_variables(env_vars: Any) -> tuple[str, ...]:
    """Return the names of the environment variables of a container; "*" where they are not known before it runs."""
    if env_vars is not None and not isinstance(env_vars, Mapping | list | tuple):
        return ("*",)
    return tuple(sorted(name for name, _ in _variables(env_vars) if name))


def names_of_vars(values: Any) -> tuple[str, ...]:
    """Return the names of dbt's variables; "*" where all of them come as one text."""
    if not values:
        return ()
    return tuple(values) if isinstance(values, Mapping) else ("*",)


def plain(value: Any, hidden: Hidden, name: str = "") -> Any:
    """Return a value as JSON can hold it: a model of Kubernetes as its manifests have it."""
    if isinstance(value, str):
        return hidden.of(str(redact(value, name)) if name else value)
    if isinstance(value, bool | int | float | timedelta | None):
        return value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(value, Mapping):
        return {str(key): plain(item, hidden, str(key)) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item, hidden, name) for item in value]
    if attributes := getattr(value, "attribute_map", None):
        fields = ((key, getattr(value, attribute)) for attribute, key in attributes.items())
        return {key: plain(item, hidden, key) for key, item in fields if item is not None}
    return written(value) if not is_literal(value) else type(value).__name__
