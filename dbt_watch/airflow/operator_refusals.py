"""
What an operator's class refuses when it is made, as an error that names the argument.

Airflow and the providers say so in words only: a TypeError of Airflow's own for what is missing, one of Python for what a
subclass sets itself, and an AirflowException for what a subclass does not allow.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowException

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MISSING: Final = re.compile(r"missing keyword arguments? ('\w+'(?:, '\w+')*)$")
_TWICE: Final = re.compile(r"got multiple values for keyword argument '(\w+)'$")


@contextlib.contextmanager
def refusals_named(operator_class: type[Any], given: Mapping[str, Any]) -> Iterator[None]:
    """
    For as long as the block lasts, say what an operator's class refuses by the name of the argument.

    :param given: the arguments that it is made with
    :raises ArgumentError: it requires another one, sets one itself, or does not allow one
    """
    name = operator_class.__name__
    try:
        yield
    except TypeError as error:
        if missing := _MISSING.search(str(error)):
            first, *others = re.findall(r"\w+", missing[1])
            too = f" (and {', '.join(others)})" if others else ""
            raise ArgumentError(first, None, f"a value: {name} requires it{too}") from None
        if (twice := _TWICE.search(str(error))) and twice[1] in given:
            expected = f"nothing: {name} sets it itself"
            raise ArgumentError(twice[1], given[twice[1]], expected) from None
        raise
    except AirflowException as error:
        words = re.findall(r"\w+", str(error))
        refused = next((each for each in given if each in words), None)
        if refused is None:
            raise
        raise ArgumentError(refused, given[refused], f"what {name} allows: {error}") from error
