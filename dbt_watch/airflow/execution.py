"""How a task may run another operator than its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import ExecutorSafeguard

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def executing(operator: Any) -> Iterator[None]:
    """
    Let an operator's `execute` be called inside of the block, as if it were the task's own.

    Airflow takes any such call for a mistake unless its task runner makes it. `allow_nested_operators` would let it pass
    too, but with a warning in the task's log that nobody can act on.
    """
    token = ExecutorSafeguard.tracker.set(operator)
    try:
        yield
    finally:
        ExecutorSafeguard.tracker.reset(token)
