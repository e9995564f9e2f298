"""The page for those who come from Cosmos names each argument that is there."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs/from-cosmos.md").read_text()
# As the signatures of astronomer-cosmos 1.15.0 have them.
ARGUMENTS = {
    "`DbtDag`, `DbtTaskGroup`": (
        "project_config", "profile_config", "execution_config", "render_config", "dag", "task_group", "operator_args",
        "on_warning_callback", "group_id",
    ),
    "`ProjectConfig`": (
        "dbt_project_path", "install_dbt_deps", "copy_dbt_packages", "models_relative_path", "seeds_relative_path",
        "snapshots_relative_path", "manifest_path", "manifest_conn_id", "project_name", "env_vars", "dbt_vars", "partial_parse",
    ),
    "`ProfileConfig`": ("profile_name", "target_name", "profiles_yml_filepath", "profile_mapping"),
    "`ExecutionConfig`": (
        "execution_mode", "invocation_mode", "test_indirect_selection", "dbt_executable_path", "install_dbt_deps",
        "dbt_project_path", "virtualenv_dir", "async_py_requirements", "setup_operator_args",
    ),
    "`RenderConfig`": (
        "emit_datasets", "test_behavior", "load_method", "invocation_mode", "select", "exclude", "selector", "dbt_deps",
        "node_converters", "node_conversion_by_task_group", "dbt_executable_path", "env_vars", "dbt_project_path", "dbt_ls_path",
        "project_path", "enable_mock_profile", "group_nodes_by_folder", "source_rendering_behavior", "source_pruning",
        "seed_rendering_behavior", "airflow_vars_to_purge_dbt_ls_cache", "airflow_vars_to_purge_dbt_yaml_selectors_cache",
        "normalize_task_id", "normalize_task_display_name", "should_detach_multiple_parents_tests", "enable_owner_inheritance",
        "ephemeral_models_as_empty_operator",
    ),
    "`operator_args`": (
        "project_dir", "conn_id", "select", "exclude", "selector", "vars", "models", "emit_datasets", "indirect_selection",
        "cache_selected_only", "no_version_check", "fail_fast", "quiet", "warn_error", "db_name", "schema", "env", "append_env",
        "output_encoding", "skip_exit_code", "partial_parse", "cancel_query_on_kill", "dbt_executable_path", "dbt_cmd_flags",
        "dbt_cmd_global_flags", "cache_dir", "extra_context", "interceptors", "full_refresh", "log_format", "profile_config",
        "on_warning_callback",
    ),
}  # fmt: skip


@pytest.mark.parametrize("heading", ARGUMENTS)
def test_each_argument_has_a_row(heading):
    table = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(ARGUMENTS[heading]) - named == set()
