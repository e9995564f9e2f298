"""
Tests of your own DAGs, without dbt, a cluster or a warehouse: a plugin of pytest, and a dbt that follows a script.

    def test_customers_wait_for_orders(dbt_watch_run_dag):
        dbt = FakeDbt("dbt/shop/target/manifest.json").fails("orders", "relation does not exist")
        run = dbt_watch_run_dag("dags/shop.py", dbt=dbt)
        run["orders"].assert_failed("relation does not exist")

pytest finds the plugin (`plugin`) by itself. It imports nothing of this before a test asks for it; see docs/dag-tests.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_watch.testing.commands import PlayedCommand
    from dbt_watch.testing.dag_run import DagRun, TaskOfRun
    from dbt_watch.testing.fake_dbt import FakeDbt
    from dbt_watch.testing.runner import DagRunner

__all__ = ["DagRun", "DagRunner", "FakeDbt", "PlayedCommand", "TaskOfRun"]

_HOMES = {
    "DagRun": "dbt_watch.testing.dag_run",
    "DagRunner": "dbt_watch.testing.runner",
    "PlayedCommand": "dbt_watch.testing.commands",
    "FakeDbt": "dbt_watch.testing.fake_dbt",
    "TaskOfRun": "dbt_watch.testing.dag_run",
}


def __getattr__(name: str) -> Any:
    # Late, since pytest loads the plugin, and so this, in every session.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dbt_watch"):
            raise
        raise ModuleNotFoundError(f"{error}; pip install 'dbt-watch[testing]'", name=error.name) from error
