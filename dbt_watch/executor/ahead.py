"""
Imports what the tasks of dbt projects need while the scheduler starts, so that the tasks need not.

With a LocalExecutor, each task is a fork of the scheduler. Without this, each of them would import this library and the few
modules of the Kubernetes client that it uses: 0.1 s for a producer that asks a server, 0.3 s for one that starts a pod. Here they cost
0.4 s once, and 30 MB that all of them share.
"""

from __future__ import annotations

import logging
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.kubernetes_imports import load_used_modules_only

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# What DAG files import, and what is imported while they are read and their tasks run.
_MODULES: Final = ("dbt_watch.decorators",)
_PACKAGES: Final = ("dbt_watch.producers", "dbt_watch.sensors", "dbt_watch.authoring", "dbt_watch.rendering")


def import_for_tasks() -> None:
    """Import what tasks need; what cannot be imported is left to them, such as pods without the provider of Kubernetes."""
    load_used_modules_only()
    for name in _names():
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001, PERF203 - a scheduler must not end for it
            log.debug("%s is left to tasks: %s", name, error)


def _names() -> Iterator[str]:
    yield from _MODULES
    for package in _PACKAGES:
        path = import_module(package).__path__
        yield from (
            found.name for found in pkgutil.walk_packages(path, f"{package}.", onerror=lambda _: None)
        )
