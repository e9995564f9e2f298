"""DAG files of Cosmos, rewritten: forms that are common, and what is left as it is."""

import textwrap

import pytest
from airflow.sdk import DAG

from dbt_watch import cli
from dbt_watch.migration.rewriting import rewritten

ONE_DAG = '''\
"""Builds the shop every day."""

from datetime import datetime
from pathlib import Path

from cosmos import DbtDag, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import TestBehavior

profile_config = ProfileConfig(
    profile_name="shop",
    target_name="prod",
    profiles_yml_filepath="/usr/app/profiles/profiles.yml",
)

# The shop.
shop = DbtDag(
    dag_id="shop",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    project_config=ProjectConfig(manifest_path=MANIFEST, project_name="jaffle_shop", dbt_vars={"batch": "{{ ds }}"}),
    profile_config=profile_config,
    execution_config=ExecutionConfig(
        execution_mode=ExecutionMode.WATCHER_KUBERNETES, dbt_project_path="/usr/app/jaffle_shop"
    ),
    render_config=RenderConfig(select=["+orders"], test_behavior=TestBehavior.AFTER_ALL, group_nodes_by_folder=True),
    operator_args={
        "image": "shop:1",  # made by CI
        "namespace": "dbt",
        "get_logs": True,
        "full_refresh": "{{ params.full }}",
        "retries": 2,
    },
    params={"full": False},
)
'''
GROUPS = """\
from datetime import datetime

from airflow.sdk import dag, task
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig
from cosmos.constants import ExecutionMode

PROJECT = ProjectConfig("/usr/app/jaffle_shop", manifest_path=MANIFEST, install_dbt_deps=False)
EXECUTION = ExecutionConfig(execution_mode=ExecutionMode.KUBERNETES)
POD = dict(image="shop:1", warn_error=True)


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def two():
    @task
    def before(): ...

    seeds = DbtTaskGroup("seeds", project_config=PROJECT, execution_config=EXECUTION, operator_args=POD)
    models = DbtTaskGroup(
        group_id="my-models", project_config=PROJECT, execution_config=EXECUTION, operator_args=POD,
    )
    before() >> seeds >> models


two()
"""


def parsed(source, manifest):
    """Return the DAGs of a file, as Airflow finds them."""
    namespace = {"__name__": "dags", "MANIFEST": str(manifest)}
    exec(compile(source, "dags.py", "exec"), namespace)  # noqa: S102 - what is tested
    return [each for each in namespace.values() if isinstance(each, DAG)]


@pytest.fixture
def manifest(project):
    return project / "target/manifest.json"


def test_a_dag_becomes_a_function_with_the_project_in_it(manifest):
    source, problems = rewritten(ONE_DAG)
    assert problems == []
    assert "cosmos" not in source
    assert "profile_config" not in source
    assert "# The shop.\n@dag(" in source
    (dag,) = parsed(source, manifest)
    producer = dag.get_task("dbt_project.dbt_build")
    assert (dag.dag_id, dag.schedule, producer.image, producer.namespace) == (
        "shop",
        "@daily",
        "shop:1",
        "dbt",
    )
    assert (producer.project_dir, producer.profiles_dir, producer.retries) == (
        "/usr/app/jaffle_shop",
        "/usr/app/profiles",
        2,
    )
    assert producer.build == {
        "vars": {"batch": "{{ ds }}"},
        "target": "prod",
        "full_refresh": "{{ params.full }}",
        "flags": ["--profile", "shop"],
    }
    assert "dbt_project.tests" in dag.task_ids
    assert "dbt_project.customers" not in dag.task_ids


def test_groups_in_a_dag_stay_where_they_are_with_their_edges(manifest):
    source, problems = rewritten(GROUPS)
    assert problems == []
    assert "cosmos" not in source
    source = source.replace("\ntwo()\n", "\nmade = two()\n")
    dags = parsed(source, manifest)
    (dag,) = dags
    first, second = dag.get_task("seeds.dbt_build"), dag.get_task("my-models.dbt_build")
    assert first.upstream_task_ids == {"before"}
    assert first.task_id in second.upstream_task_ids
    assert first.build == {"flags": ["--warn-error"]}


@pytest.mark.parametrize(("emit", "expected"), [("True", True), ("False", False), (None, False)])
def test_datasets_that_are_asked_for_become_assets(emit, expected):
    more = "" if emit is None else f", render_config=RenderConfig(emit_datasets={emit})"
    source, problems = rewritten(
        GROUPS.replace('"seeds", project_config=PROJECT', f'"seeds", project_config=PROJECT{more}')
    )
    assert problems == []
    assert ('assets="each"' in source) is expected


def test_what_has_nothing_to_do_with_it_stays_to_the_letter():
    source, _ = rewritten(ONE_DAG + "\n\nx  =  1   # as it was\n")
    assert source.startswith('"""Builds the shop every day."""\n\nfrom datetime import datetime\n')
    assert source.endswith("\n\nx  =  1   # as it was\n")


def test_a_file_is_rewritten_once(manifest):
    source, _ = rewritten(ONE_DAG)
    again, problems = rewritten(source)
    assert again == source
    assert [problem.text for problem in problems] == ["there is no DbtDag or DbtTaskGroup"]


PROJECT = 'ProjectConfig(manifest_path="m.json")'
KUBERNETES = "ExecutionConfig(execution_mode=ExecutionMode.KUBERNETES)"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (f"project_config={PROJECT}", "the execution mode is LOCAL"),
        (
            f"project_config={PROJECT}, execution_config=ExecutionConfig(execution_mode=ExecutionMode.VIRTUALENV)",
            "the execution mode is VIRTUALENV",
        ),
        (f"project_config=ProjectConfig('/x'), execution_config={KUBERNETES}", "manifest_path is missing"),
        (f"project_config=made(), execution_config={KUBERNETES}", "project_config is not ProjectConfig"),
        (f"project_config={PROJECT}, execution_config={KUBERNETES}, **more", "more is unpacked into"),
        (f"project_config={PROJECT}, execution_config={KUBERNETES}, operator_args=made()", "operator_args is not a literal dict"),
        (f"project_config={PROJECT}, execution_config={KUBERNETES}, operator_args={{**more}}", "is not a named item"),
        (f"project_config={PROJECT}, execution_config={KUBERNETES}, default_args={{}}", "default_args: pass it to a TaskGroup"),
        (
            f"project_config={PROJECT}, execution_config={KUBERNETES}, profile_config=ProfileConfig('a', 'b', profile_mapping=M())",
            "profile_mapping of ProfileConfig: M() is not supported: give profile=DbtProfile(conn_id)",
        ),
        (
            f"project_config={PROJECT}, execution_config={KUBERNETES}, render_config=RenderConfig(node_converters={{}})",
            "node_converters of RenderConfig",
        ),
        (
            f"project_config={PROJECT}, execution_config={KUBERNETES}, render_config=RenderConfig(new=1)",
            "new of RenderConfig: unknown argument",
        ),
        (
            f"project_config={PROJECT}, execution_config={KUBERNETES}, operator_args={{'interceptors': [x]}}",
            "interceptors of operator_args",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_rewritten_stays_and_is_named_with_its_line(call, expected):
    source = f"import cosmos\n\nx = DbtTaskGroup({call})\n"
    same, (problem,) = rewritten(source)
    assert same == source
    assert problem.line == 3
    assert expected in problem.text


def test_a_project_in_the_middle_of_a_statement_stays():
    source = f"a >> DbtTaskGroup('x', project_config={PROJECT}, execution_config={KUBERNETES})\n"
    same, (problem,) = rewritten(source)
    assert same == source
    assert "neither a separate statement" in problem.text


def test_one_that_stays_keeps_what_it_needs(manifest):
    source = GROUPS.replace(
        '"my-models", project_config=PROJECT', '"my-models", project_config=PROJECT, tooltip="x"'
    )
    changed, (problem,) = rewritten(source)
    assert "tooltip" in problem.text
    assert "PROJECT = ProjectConfig(" in changed
    assert "from cosmos import DbtTaskGroup, ExecutionConfig, ProjectConfig\n" in changed
    assert "def seeds():" in changed


# The command.


@pytest.fixture
def dag_file(tmp_path):
    def write(source):
        path = tmp_path / "shop.py"
        path.write_text(source)
        return path

    return write


def test_the_command_shows_a_diff_and_changes_nothing(dag_file, capsys):
    path = dag_file(ONE_DAG)
    assert cli.main(["migrate", str(path)]) == 0
    shown = capsys.readouterr()
    assert "-shop = DbtDag(\n" in shown.out
    assert "+    @dbt_k8s_project(\n" in shown.out
    assert shown.err == ""
    assert path.read_text() == ONE_DAG


def test_it_writes_when_it_is_told_to(dag_file):
    path = dag_file(ONE_DAG)
    assert cli.main(["migrate", str(path), "--write"]) == 0
    assert path.read_text() == rewritten(ONE_DAG)[0]


def test_it_ends_with_1_when_something_is_left(dag_file, capsys):
    path = dag_file(
        textwrap.dedent("""
        x = DbtDag(project_config=ProjectConfig("/x"))
    """)
    )
    assert cli.main(["migrate", str(path), "--write"]) == 1
    assert capsys.readouterr().err == (
        f"{path}:2: DbtDag: the execution mode is LOCAL; only KUBERNETES and WATCHER_KUBERNETES are rewritten\n"
    )


@pytest.mark.parametrize("source", ["def", None])
def test_it_ends_with_2_when_there_is_no_such_file_or_it_is_no_python(dag_file, source, tmp_path):
    path = tmp_path / "none.py" if source is None else dag_file(source)
    assert cli.main(["migrate", str(path)]) == 2
