"""
Run a dbt project in one Kubernetes pod from Airflow, with one task for each dbt node.

    @dbt_k8s_project(manifest="dbt/shop/target/manifest.json", image="registry.example/shop-dbt:1.4")
    def build():
        return dbt_build(vars={"day": "{{ ds }}"})

Or by a server, with `@dbt_api_project(manifest=..., conn_id="dbt_api")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_watch.authoring.assets import dbt_asset
    from dbt_watch.authoring.pod_settings import PodSettings
    from dbt_watch.core.artifacts import Artifacts
    from dbt_watch.core.results import NodeResult
    from dbt_watch.decorators import (
        dbt_api_project,
        dbt_build,
        dbt_command,
        dbt_k8s_project,
        dbt_node,
        dbt_run_operation,
    )
    from dbt_watch.executor.node_executor import NodeExecutor
    from dbt_watch.lineage.settings import DbtLineage
    from dbt_watch.profiles.dbt_profile import DbtProfile
    from dbt_watch.project import DbtNode, DbtProject
    from dbt_watch.rendering.project_plan import ProjectPlan

__version__ = "0.1.0"

__all__ = [
    "Artifacts",
    "DbtLineage",
    "DbtNode",
    "DbtProfile",
    "DbtProject",
    "NodeExecutor",
    "NodeResult",
    "PodSettings",
    "ProjectPlan",
    "dbt_api_project",
    "dbt_asset",
    "dbt_build",
    "dbt_command",
    "dbt_k8s_project",
    "dbt_node",
    "dbt_run_operation",
]

_HOMES = {
    "Artifacts": "dbt_watch.core.artifacts",
    "DbtLineage": "dbt_watch.lineage.settings",
    "DbtNode": "dbt_watch.project",
    "DbtProfile": "dbt_watch.profiles.dbt_profile",
    "DbtProject": "dbt_watch.project",
    "NodeExecutor": "dbt_watch.executor.node_executor",
    "NodeResult": "dbt_watch.core.results",
    "PodSettings": "dbt_watch.authoring.pod_settings",
    "ProjectPlan": "dbt_watch.rendering.project_plan",
    "dbt_api_project": "dbt_watch.decorators",
    "dbt_asset": "dbt_watch.authoring.assets",
    "dbt_build": "dbt_watch.decorators",
    "dbt_command": "dbt_watch.decorators",
    "dbt_k8s_project": "dbt_watch.decorators",
    "dbt_node": "dbt_watch.decorators",
    "dbt_run_operation": "dbt_watch.decorators",
}


def __getattr__(name: str) -> Any:
    # Late, so that `dbt_watch.core` can be used where there is no Airflow.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
