"""The wide project as the peer runs it under the KubernetesExecutor; only where the peer is installed."""

from datetime import datetime
from pathlib import Path

from airflow.sdk import get_parsing_context
from cosmos import (
    DbtDag,
    ExecutionConfig,
    ExecutionMode,
    LoadMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)

WIDTH = 50
PLACE = f"/usr/app/wide_{WIDTH}"
MODES = ("KUBERNETES", "WATCHER_KUBERNETES")

for mode in MODES:
    dag_id = f"peer_{mode.lower()}"
    if get_parsing_context().dag_id in {None, dag_id}:
        globals()[dag_id] = DbtDag(
            project_config=ProjectConfig(
                manifest_path=Path(__file__).with_name(f"wide_{WIDTH}") / "target/manifest.json",
                project_name="wide",
            ),
            profile_config=ProfileConfig(
                profile_name="wide", target_name="warehouse", profiles_yml_filepath=f"{PLACE}/profiles.yml"
            ),
            render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode[mode], dbt_project_path=PLACE, dbt_executable_path="dbt"
            ),
            operator_args={"image": f"registry.example/wide-{WIDTH}-dbt:1", "namespace": "dbt"},
            dag_id=dag_id,
            schedule=None,
            start_date=datetime(2026, 1, 1),
            catchup=False,
        )
