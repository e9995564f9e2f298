"""
What a producer remembers from one attempt to the next, in Airflow's store of a task's state (3.3 and later).

Earlier versions of Airflow have no such place: a task's XComs are wiped when its next attempt begins. What is remembered
belongs to the attempts between two clears; a person who clears a task wants it as the DAG is now. `producers` uses it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import is_not_found
from dbt_watch.airflow.task_instances import generation_of
from dbt_watch.core.command import DbtBuild
from dbt_watch.core.results import NodeResult, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.sdk import Context

log = logging.getLogger(__name__)

DONE_KEY: Final = "dbt_watch_done"
OPTIONS_KEY: Final = "dbt_watch_options"
BUILT_KEY: Final = "dbt_watch_built"
TRIES_KEY: Final = "dbt_watch_tries"
MAX_TRIES: Final = 100
"""How many nodes that have failed are remembered."""
MAX_TRY_CHARS: Final = 500
"""How much of the message and of the SQL of each."""
INVOCATION_KEY: Final = "dbt_watch_invocation"


class KeptInvocation(msgspec.Struct, frozen=True):
    """
    The invocation of a server that an attempt has followed last.

    :param task_id: the server's id of it
    :param generation: between which clears that was
    :param is_read: whether it was followed to its end
    """

    task_id: str
    generation: str
    is_read: bool = False


class Memory:
    """
    What one task remembers.

    :param context: of the task that runs here
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._generation = generation_of(context["ti"])

    def remember_end(self, *, well: bool = True) -> bool | None:
        """
        Note how dbt has ended, for the case that the worker dies before Airflow knows.

        :param well: whether it has ended well
        :returns: whether Airflow still knows this attempt: it makes a new task instance for each one. None when it could not
            be asked
        """
        return self._set(DONE_KEY, self._generation if well else "")

    @property
    def is_done(self) -> bool:
        """Whether dbt has ended well in an earlier attempt."""
        return bool(self._get(DONE_KEY) == self._generation)

    def remember_built(self, results: Sequence[NodeResult]) -> None:
        """
        Note what a later attempt need not build, of the nodes whose own task this is; of others the states of sensors tell.

        :param results: what became of them
        """
        if results:
            value = {"generation": self._generation, "results": [result.to_dict() for result in results]}
            self._set(BUILT_KEY, value)

    @property
    def built(self) -> list[NodeResult]:
        """What earlier attempts have noted so."""
        return self._results(BUILT_KEY)

    def remember_tries(self, results: Iterable[NodeResult]) -> None:
        """
        Note which nodes dbt has begun and not built, for the page to show beside a later attempt.

        :param results: what became of all nodes of an attempt
        """
        bad = [
            _slim(result)
            for result in results
            if result.started_at is not None and (result.is_failure or result.was_not_run)
        ]
        if bad:
            kept = [*self.tries, *bad][-MAX_TRIES:]
            self._set(
                TRIES_KEY,
                {"generation": self._generation, "results": [result.to_dict() for result in kept]},
            )

    @property
    def tries(self) -> list[NodeResult]:
        """What earlier attempts have noted so."""
        return self._results(TRIES_KEY)

    def remember_invocation(self, task_id: str, *, is_read: bool = False) -> None:
        """
        Note which invocation of a server this attempt follows.

        :param task_id: the server's id of it
        :param is_read: whether it was followed to its end
        """
        self._set(INVOCATION_KEY, msgspec.to_builtins(KeptInvocation(task_id, self._generation, is_read)))

    @property
    def invocation(self) -> KeptInvocation | None:
        """The invocation that an attempt has noted so, also one of before a clear."""
        stored = self._get(INVOCATION_KEY)
        try:
            return None if stored is None else msgspec.convert(stored, KeptInvocation)
        except msgspec.ValidationError:
            return None  # of another version of this library

    def options_of_first_attempt(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the options that the first attempt had; remember these if there was none.

        An option that holds a secret is not remembered, and so is as it is now.

        :param options: a rendered `DbtBuild.to_dict()`, and what else belongs to the command
        """
        ours = {name: options[name] for name in DbtBuild.__struct_fields__ if name in options}
        try:
            rendered = _plain(ours)
        except TypeError as error:
            log.info(
                "The options are not kept for later attempts, since JSON cannot represent them: %s", error
            )
            return dict(options)
        stored = self._get(OPTIONS_KEY)
        if not (isinstance(stored, dict) and stored.get("generation") == self._generation):
            kept = {name: None if redact(value, name) != value else value for name, value in rendered.items()}
            self._set(OPTIONS_KEY, {"generation": self._generation, "options": kept})
            return dict(options)
        first = {
            name: rendered.get(name) if value is None else value for name, value in stored["options"].items()
        }
        if changed := [name for name in {**first, **rendered} if first.get(name) != rendered.get(name)]:
            log.info(
                "Using the values of the first attempt, although these have changed since: %s",
                ", ".join(changed),
            )
        return {**{name: value for name, value in options.items() if name not in ours}, **first}

    def _results(self, key: str) -> list[NodeResult]:
        stored = self._get(key)
        if not (isinstance(stored, dict) and stored.get("generation") == self._generation):
            return []
        return [NodeResult.from_dict(value) for value in stored["results"]]

    def _get(self, key: str) -> Any:
        try:
            return None if self._store is None else self._store.get(key)
        except Exception as error:  # noqa: BLE001 - an attempt does without
            log.warning("The state left by earlier attempts cannot be read: %s", error)
            return None

    def _set(self, key: str, value: Any) -> bool | None:
        if self._store is None:
            return None
        try:
            self._store.set(key, value)
        except Exception as error:  # noqa: BLE001 - of use in rare cases only
            log.info("Keeping state for later attempts failed: %s", error)
            return False if is_not_found(error) else None
        return True


def _slim(result: NodeResult) -> NodeResult:
    """Return a result without what takes much room."""
    message, sql = (shortened(text, MAX_TRY_CHARS) if text else None for text in (result.message, result.sql))
    return msgspec.structs.replace(result, message=message, sql=sql, adapter_response={}, batches=())


def _plain(value: dict[str, Any]) -> Any:
    """Return values as JSON has them."""
    return msgspec.json.decode(msgspec.json.encode(value))
