"""`dbt-watch plan`: of a DAG file or of a manifest, as a tree or as JSON, and what it says when it cannot."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dbt_watch import ProjectPlan
from dbt_watch.planning.tree import COLUMNS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HEAD = """
from datetime import datetime
from airflow.sdk import dag
from dbt_watch import dbt_build, dbt_k8s_project
"""
SHOP = """
@dag(schedule=None, start_date=datetime(2026, 1, 1))
def {dag}():
    @dbt_k8s_project(manifest={manifest!r}, image="shop:1", group_id={group!r})
    def build(): ...

    build()

{dag}()
"""


@pytest.fixture
def manifest(project):
    return project / "target/manifest.json"


@pytest.fixture
def dag_file(manifest, tmp_path):
    """Return a function that writes a DAG file with some projects, each with its DAG and its group."""

    def write(*projects, more=""):
        parts = [SHOP.format(dag=dag, group=group, manifest=str(manifest)) for dag, group in projects]
        path = tmp_path / "shop_dags.py"
        path.write_text(HEAD + "".join(parts) + more)
        return path

    return write


@pytest.mark.parametrize("name", ["isolated", "pod_per_node", "between"])
def test_the_tree_of_an_example_names_every_pod_and_fits(run, example_plan, name):
    plan = example_plan(f"{name}_dag.py")
    status, out, err = run(EXAMPLES / f"{name}_dag.py")
    assert (status, err) == (0, "")
    assert all(f"{pod.task_id}: " in out for pod in plan.pods)
    assert max(map(len, out.splitlines())) <= COLUMNS
    assert f"{name}.build: jaffle_shop, {plan.node_count} nodes in {len(plan.pods)} pods" in out


def test_json_is_one_object_in_the_documented_form(run, example_plan):
    plan = example_plan("isolated_dag.py")
    status, out, err = run(EXAMPLES / "isolated_dag.py", "--format", "json")
    assert (status, err) == (0, "")
    assert msgspec.json.decode(out, type=ProjectPlan, strict=True) == plan


def test_what_a_dag_file_prints_is_no_part_of_it(run, dag_file):
    path = dag_file(("shop", "build"), more='\nprint("hello")\n')
    status, out, err = run(path, "--format", "json")
    assert (status, json.loads(out)["dag_id"]) == (0, "shop")
    assert "hello" in err


def test_a_dag_file_finds_what_lies_beside_it(run, dag_file, tmp_path):
    (tmp_path / "beside_the_shop.py").write_text("VALUE = 1")
    assert run(dag_file(("shop", "build"), more="\nimport beside_the_shop\n"))[0] == 0


def test_one_of_several_projects_is_named_by_its_dag_and_its_group(run, dag_file):
    path = dag_file(("shop", "build"), ("shop_eu", "build"), ("shop_us", "load"))
    assert run(path, "--dag", "shop_eu")[1].startswith("shop_eu.build: ")
    assert run(path, "--project", "load")[1].startswith("shop_us.load: ")


def test_several_projects_are_listed_for_the_user_to_choose(run, dag_file):
    status, out, err = run(dag_file(("shop", "build"), ("shop_eu", "build")))
    assert (status, out) == (2, "")
    assert "--dag shop --project build; --dag shop_eu --project build" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dag", "shop_uu"], "--dag='shop_uu': expected a DAG of"),
        (["--dag", "shop_uu"], "did you mean shop_eu"),
        (["--project", "biuld"], "--project='biuld': expected a task group of"),
    ],
)
def test_unknown_names_are_answered_with_those_that_there_are(run, dag_file, arguments, message):
    status, _, err = run(dag_file(("shop", "build"), ("shop_eu", "build")), *arguments)
    assert status == 2
    assert message in err


def test_a_file_without_a_project_says_what_is_missing(run, dag_file):
    status, _, err = run(dag_file())
    assert status == 2
    assert (
        "defines no project: none of its DAGs calls a function under @dbt_k8s_project or @dbt_api_project"
        in err
    )


def test_a_file_that_is_not_there_is_named(run, tmp_path):
    status, _, err = run(tmp_path / "shop.py")
    assert (status, err) == (2, f"dbt-watch plan: {tmp_path}/shop.py is no file\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import nothing_of_that_name",
            "line 6: ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("dbt_build(threads=0)", "line 6: ArgumentError: threads=0: expected a number of threads"),
        ("def (", "line 6: SyntaxError: "),
        ("raise SystemExit(3)", "line 6: SystemExit: 3"),
    ],
)
def test_a_file_that_fails_says_where_and_why(run, dag_file, code, message):
    status, _, err = run(dag_file(more=f"\n{code}\n"))
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_part_of_a_selection_that_matches_nothing_is_warned_of(run, manifest):
    status, _, err = run("--manifest", manifest, "--select", "orders", "ordres")
    assert status == 0
    assert "ordres" in err


def test_a_manifest_with_options_gives_the_plan_that_a_project_would(run, manifest):
    status, out, _ = run(
        "--manifest", manifest, "--select", "+customers", "--exclude", "raw_payments", "--tests", "build",
        "--isolate", "orders", "--isolate", "tag:nightly", "--image", "shop:2", "--format", "json",
    )  # fmt: skip
    plan = msgspec.json.decode(out, type=ProjectPlan)
    assert status == 0
    assert {pod.image for pod in plan.pods} == {"shop:2"}
    assert {pod.task_id for pod in plan.pods if pod.kind == "isolated"} == {"build.orders", "build.customers"}
    assert not any(task.task_id.endswith(".test") for pod in plan.pods for task in pod.tasks)
    (orders,) = (pod for pod in plan.pods if pod.task_id == "build.orders")
    assert orders.why == 'orders has a pod of its own by isolate="orders" and isolate="tag:nightly"'
    assert "seed.jaffle_shop.raw_payments" not in {node for pod in plan.pods for node in pod.nodes}


def test_without_an_image_none_is_shown(run, manifest):
    status, out, _ = run("--manifest", manifest, "--format", "json")
    plan = json.loads(out)
    assert (status, plan["dag_id"], [pod["image"] for pod in plan["pods"]]) == (0, "", [None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a DAG file or --manifest"),
        (["shop.py", "--manifest", "manifest.json"], "either a DAG file or --manifest"),
        (["shop.py", "--isolate", "*"], "--isolate=['*']: expected --manifest as well"),
        (["--manifest", "manifest.json", "--dag", "shop"], "--dag='shop': expected a DAG file"),
        (["--manifest", "no_manifest.json"], "--manifest="),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("option", "value"), [("--isolate", "ordres"), ("--select", "ordres"), ("--selector", "x")]
)
def test_wrong_selections_are_told_by_the_name_of_the_option(run, manifest, option, value):
    status, _, err = run("--manifest", manifest, option, value)
    assert status == 2
    assert f"{option}=" in err


def test_long_lists_are_cut_and_all_of_it_is_there_when_asked_for(run, layers):
    manifest = layers(50, 20)
    status, out, _ = run("--manifest", manifest, "--isolate", "*")
    assert status == 0
    assert "and 980 more pods; --all shows them" in out
    assert len(out.splitlines()) < 150
    status, out, _ = run("--manifest", manifest, "--isolate", "*", "--all")
    assert all(f"build.m{number:04}: " in out for number in range(1000))


def test_a_pod_of_many_nodes_names_some_of_them_and_how_many_there_are(run, layers):
    _, out, _ = run("--manifest", layers(50, 4))
    (line,) = [line for line in out.splitlines() if "nodes: " in line]
    assert "m0000, m0001" in line
    assert line.endswith("more")
    assert "(200 criteria)" not in out  # a project in one pod is asked for by its own selection
    _, out, _ = run("--manifest", layers(50, 4), "--all")
    assert "m0199" in out


def test_without_its_library_a_picture_is_answered_with_what_to_install(run, manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grandalf.graphs", None)
    status, _, err = run("--manifest", manifest, "--svg", tmp_path / "plan.svg")
    assert status == 2
    assert "pip install 'dbt-watch[plan]'" in err
    assert not (tmp_path / "plan.svg").exists()


def test_a_picture_is_written_beside_what_is_printed(run, manifest, tmp_path):
    status, out, _ = run("--manifest", manifest, "--svg", tmp_path / "plan.svg")
    assert status == 0
    assert out.startswith("build: jaffle_shop")
    assert (tmp_path / "plan.svg").read_text().startswith("<svg ")


def test_a_picture_that_cannot_be_written_is_an_error(run, manifest, tmp_path):
    status, _, err = run("--manifest", manifest, "--svg", tmp_path / "nowhere/plan.svg")
    assert status == 2
    assert "nowhere/plan.svg" in err


def test_the_page_shows_the_tree_as_it_is(run, example_plan):
    example_plan("isolated_dag.py")  # where its manifest is
    _, out, _ = run(EXAMPLES / "isolated_dag.py")
    (shown,) = re.findall(r"```text\n(.*?)\n\.\.\.\n```", (ROOT / "docs/cli.md").read_text(), re.DOTALL)
    assert [line.rstrip() for line in out.splitlines()][: len(shown.splitlines())] == shown.splitlines()


def test_the_page_lists_every_field_of_the_json(run, manifest):
    page = (ROOT / "docs/cli.md").read_text().split("## plan")[1].split("## replay")[0]
    plan = json.loads(run("--manifest", manifest, "--format", "json")[1])
    for name in plan:
        assert f"`{name}`" in page
    for name in plan["pods"][0]:
        assert f"`pods[].{name}`" in page


def test_no_database_of_airflow_is_needed(project, tmp_path):
    """Run it as a user does, in a place where Airflow has never been."""
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/nowhere/airflow.db",
        "JAFFLE_SHOP_MANIFEST": str(project / "target/manifest.json"),
    }
    command = [
        sys.executable,
        "-m",
        "dbt_watch.cli",
        "plan",
        str(EXAMPLES / "isolated_dag.py"),
        "--format",
        "json",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=480)
    assert json.loads(done.stdout)["dag_id"] == "isolated"
    assert not list(tmp_path.rglob("*.db"))
