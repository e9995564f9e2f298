"""A directory for as long as a run lasts. Used by the environments of `demo` and `run`."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dbt_watch.local.airflow.processes import interrupts_held

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def temporary_workspace(prefix: str) -> Iterator[Path]:
    """
    Make a directory that is gone after the block, and at the exit of the interpreter at the latest.

    :param prefix: what its name begins with
    """

    def remove() -> None:
        if created:
            shutil.rmtree(created[0], ignore_errors=True)

    created: list[Path] = []
    try:
        with interrupts_held():
            created.append(Path(tempfile.mkdtemp(prefix=prefix)))
            atexit.register(remove)
        yield created[0]
    finally:
        remove()
        atexit.unregister(remove)
