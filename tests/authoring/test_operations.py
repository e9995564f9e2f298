"""Tasks for other commands of dbt than a build: where they stand in a DAG, what their pods are, and what is refused."""

import pytest
from airflow.sdk import TaskGroup, task

from dbt_watch import DbtProfile, dbt_api_project, dbt_build, dbt_command, dbt_run_operation
from dbt_watch.exceptions import ArgumentError


@pytest.fixture
def project_in(dag, decorate):
    def make(**arguments):
        @decorate(namespace="dbt", project_dir="/usr/app", retries=3, env_vars={"A": "b"}, **arguments)
        def shop():
            return dbt_build(vars={"day": "{{ ds }}"})

        return shop()

    return make


def test_a_macro_is_a_task_of_its_own_in_a_pod_as_the_projects(dag, project_in):
    project = project_in()
    granted = project.run_operation("grant_select", args={"role": "{{ params.role }}"})
    project >> granted
    made = dag.get_task("grant_select")
    assert made.command == {"words": ["run-operation", "grant_select"], "args": {"role": "{{ params.role }}"}}
    assert (made.image, made.namespace, made.project_dir, made.retries) == ("shop:1", "dbt", "/usr/app", 3)
    # An older provider makes models of them at once.
    env = (
        made.env_vars
        if isinstance(made.env_vars, dict)
        else {each.name: each.value for each in made.env_vars}
    )
    assert env == {"A": "b"}
    assert {task.task_id for task in project.leaves} <= made.upstream_task_ids


def test_the_result_is_an_argument_of_another_task(dag, project_in):
    @task
    def report(result): ...

    report(project_in().command(["docs", "generate"]))
    assert dag.get_task("report").upstream_task_ids == {"docs_generate"}


def test_an_xcom_among_the_words_draws_the_edge(dag, project_in):
    @task
    def state() -> str:
        return "/state"

    project_in().command(["clone", "--state", state()])
    assert dag.get_task("clone").upstream_task_ids == {"state"}


def test_the_same_command_twice_is_numbered_as_any_task(dag, project_in):
    project = project_in()
    project.command(["source", "freshness"])
    project.command(["source", "freshness"], target="prod")
    assert {"source_freshness", "source_freshness__1"} <= set(dag.task_ids)
    assert dag.get_task("source_freshness__1").command["target"] == "prod"


def test_a_task_has_the_id_that_it_is_given_and_stands_in_the_group_around_it(dag, project_in):
    project = project_in()
    with TaskGroup("after"):
        project.command(["ls"], task_id="names")
        project.run_operation("dbt_utils.log_info")
    assert {"after.names", "after.dbt_utils_log_info"} <= set(dag.task_ids)


def test_arguments_beside_it_win_over_those_of_the_project(dag, project_in):
    project_in(outlets=[]).command(["docs", "generate"], image="docs:1", retries=0, deps=True)
    made = dag.get_task("docs_generate")
    assert (made.image, made.retries) == ("docs:1", 0)
    assert made.cmds[:2] == ["/bin/sh", "-c"]


def test_a_check_of_sources_before_the_build_is_not_made_before_the_command(dag, project_in):
    project_in().command(["docs", "generate"])
    assert dag.get_task("docs_generate").cmds == ["dbt"]


def test_without_a_project_the_arguments_say_where_it_runs(dag):
    dbt_run_operation("grant_select", {"role": "reader"}, image="shop:1", project_dir="/usr/app")
    dbt_command(["docs", "generate"], image="shop:1", operator_class=None)
    assert dag.get_task("grant_select").image == "shop:1"
    assert dag.get_task("docs_generate").task_type == "DbtCommandByKubernetesPodOperator"


def test_a_server_runs_it_where_the_project_is_a_servers_or_there_is_a_connection(dag, project):
    @dbt_api_project(
        manifest=project / "target/manifest.json", conn_id="dbt_prod", project_dir="shop", deferrable=True
    )
    def shop(): ...

    shop().command(["docs", "generate"])
    dbt_run_operation("grant_select", conn_id="dbt_prod")
    made = dag.get_task("docs_generate")
    assert (made.task_type, made.conn_id, made.project_dir) == ("DbtApiCommandOperator", "dbt_prod", "shop")
    assert dag.get_task("grant_select").conn_id == "dbt_prod"


def test_a_worker_that_runs_another_task_makes_an_empty_one_in_its_place(dag, decorate, monkeypatch):
    @decorate()
    def shop(): ...

    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "docs_generate")
    project = shop()
    project.command(["docs", "generate"])
    project.run_operation("grant_select")
    assert dag.get_task("docs_generate").task_type == "DbtCommandByKubernetesPodOperator"
    assert dag.get_task("grant_select").task_type == "EmptyOperator"


def test_such_a_dag_can_be_serialized(dag, project_in, serialized):
    project = project_in()
    project >> project.command(["docs", "generate"])
    assert serialized(dag)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda project: project.command(["build"]), "builds the project"),
        (lambda project: project.command(["ls", "--quiet"]), "words without --quiet"),
        (lambda project: project.run_operation("grant select"), "macro='grant select'"),
        (lambda project: project.run_operation("grant", args=[1]), r"args=\[1\]"),
        (lambda project: project.command(["ls"], vars=[1]), r"vars=\[1\]"),
        (lambda project: project.command(["ls"], target=1), "target=1"),
        (
            lambda project: project.command(["ls"], select="orders"),
            "select='orders': .* applies to the nodes",
        ),
        (lambda project: project.command(["ls"], manifest="x"), "manifest='x': .* applies to the nodes"),
        (lambda project: project.command(["ls"], immage="x"), "immage='x': .* did you mean image"),
        (lambda project: project.command(["ls"], task_id=""), "task_id=''"),
        (lambda _: dbt_command(["ls"]), "image=None: expected the image"),
        (lambda _: dbt_command(["ls"], conn_id="x", image="y"), "image='y': .* configures a pod"),
    ],
)
def test_what_is_wrong_is_said_while_the_dag_is_parsed(dag, project_in, call, expected):
    project = project_in()
    with pytest.raises(ArgumentError, match=expected):
        call(project)


WAREHOUSE = DbtProfile("warehouse", type="duckdb")


def test_a_profile_that_is_made_of_a_connection_is_that_of_the_commands_too(dag, project_in):
    project_in(profile=WAREHOUSE).run_operation("grant_select")
    made = dag.get_task("grant_select")
    assert (made.profile, made.profiles_dir, made.graph.project_name) == (
        WAREHOUSE,
        "/etc/dbt-watch",
        "jaffle_shop",
    )


def test_a_command_may_have_another_profile_than_the_project(dag, project_in):
    project = project_in(profile=WAREHOUSE)
    project.command(["debug"], profiles_dir="/etc/dbt")
    project.command(["ls"], profile=DbtProfile("lake", type="duckdb"))
    project.command(["deps"], profile=None)
    found = {name: dag.get_task(name) for name in ("debug", "ls", "deps")}
    assert {
        name: (task.profile and task.profile.conn_id, task.profiles_dir) for name, task in found.items()
    } == {
        "debug": (None, "/etc/dbt"),
        "ls": ("lake", "/etc/dbt-watch"),
        "deps": (None, None),
    }


def test_a_profile_of_a_command_takes_the_place_of_the_projects_directory(dag, project_in):
    project_in(profiles_dir="/etc/dbt").command(["ls"], profile=WAREHOUSE)
    assert dag.get_task("ls").profiles_dir == "/etc/dbt-watch"


def test_without_a_project_a_profile_says_its_adapter(dag):
    with pytest.raises(ArgumentError, match=r"a type=\.\.\.: the manifest does not name the adapter"):
        dbt_command(["ls"], image="shop:1", profile=DbtProfile("warehouse"))
    dbt_command(["ls"], image="shop:1", profile=WAREHOUSE)
    assert dag.get_task("ls").profile == WAREHOUSE


@pytest.mark.parametrize("words", [["ls", "--profile", "x"], ["ls", "--profile=x"]])
def test_beside_a_profile_that_is_made_no_other_is_named(project_in, words):
    with pytest.raises(ArgumentError, match=r"words=.*options without --profile: "):
        project_in(profile=WAREHOUSE).command(words)


def test_within_the_function_of_a_project_it_is_refused(dag, decorate):
    @decorate()
    def shop():
        dbt_command(["docs", "generate"], image="shop:1")

    with pytest.raises(ArgumentError, match="outside the function that defines the project"):
        shop()
