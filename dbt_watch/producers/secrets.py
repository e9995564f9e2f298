"""
What among a producer's values is secret, and how it is kept out of sight.

Airflow's own rules decide: a value is secret that stands under a name such as `password` or `api_token` (`[core]
sensitive_var_conn_names` adds names), or that came out of a connection or a Variable whose secrets Airflow masks.
`producers.dbt_task` asks after it has rendered its fields, and `producers.dbt_trigger` goes on with the same secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from dbt_watch.airflow.secrets import mask_secret, redact


def secrets_in(values: Mapping[str, Any]) -> list[str]:
    """
    Return the texts that Airflow would not show.

    :param values: by name, nested as they may be
    """
    return sorted(set(_hidden(values, redact(values))))


def hide(secrets: Iterable[str]) -> None:
    """Have Airflow mask some texts in whatever this process logs or shows from now on."""
    for secret in secrets:
        mask_secret(secret)


_MASK: Final = "***"


def _hidden(value: Any, shown: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value != shown:
            # In `postgres://shop:***@db` only what the mask covers is secret. Without one Airflow could not tell.
            before, mask, _ = str(shown).partition(_MASK)
            after = str(shown).rpartition(_MASK)[2]
            yield value[len(before) : len(value) - len(after)] if mask else value
    elif isinstance(shown, str):
        # Airflow shows nothing of what it could not look through, so all of it may be secret.
        yield from _texts(value)
    elif isinstance(value, Mapping) and isinstance(shown, Mapping):
        for name, part in value.items():
            yield from _hidden(part, shown.get(name))
    elif isinstance(value, Sequence) and isinstance(shown, Sequence):
        for part, seen in zip(value, shown, strict=False):
            yield from _hidden(part, seen)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)
