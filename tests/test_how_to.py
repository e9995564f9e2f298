"""The DAG files of the how-to guides are read as Airflow reads them, and what they do beside dbt is done."""

import re
import runpy
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
from airflow.sdk import BaseNotifier
from code_blocks import ROOT, blocks_of, python_blocks

from dbt_watch import NodeResult
from dbt_watch.authoring.pod_arguments import known_arguments, watching_class

DAG_FILES = [block for block in python_blocks() if block.page.startswith("docs/how-to/")]
SENT = []


class SlackWebhookNotifier(BaseNotifier):
    """Stands in for the one of Slack's provider, which is not installed."""

    template_fields = ("text",)

    def __init__(self, *, slack_webhook_conn_id, text, **kwargs):
        super().__init__(**kwargs)
        self.connection, self.text = slack_webhook_conn_id, text

    def notify(self, context):
        SENT.append((self.connection, self.text))


@pytest.fixture(autouse=True)
def slack(monkeypatch):
    name = "airflow.providers.slack.notifications.slack_webhook"
    for part in ("airflow.providers.slack", "airflow.providers.slack.notifications", name):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    sys.modules[name].SlackWebhookNotifier = SlackWebhookNotifier
    SENT.clear()


@pytest.fixture
def read(project, tmp_path):
    """Return a function that runs a DAG file beside the manifest that it asks for."""
    target = tmp_path / "dbt/shop/target"
    target.mkdir(parents=True)
    shutil.copy(project / "target/manifest.json", target)
    (target / "image.txt").write_text("registry.example/shop-dbt:1.4\n")
    bucket = tmp_path / "dbt/shop/1.4"
    bucket.mkdir()
    shutil.copy(project / "target/manifest.json", bucket)

    def read(block):
        file = tmp_path / "shop.py"
        file.write_text(block.text.replace("s3://aws_default@lake", f"file://{tmp_path}"))
        return runpy.run_path(str(file))

    return read


def the_dag(names):
    return names["shop"]()


def block_with(page, text):
    (block,) = [each for each in DAG_FILES if each.page == f"docs/how-to/{page}.md" and text in each.text]
    return block


@pytest.mark.parametrize("block", DAG_FILES, ids=str)
def test_a_dag_file_of_a_guide_is_read(block, read):
    tasks = the_dag(read(block)).task_dict
    assert "build" in tasks or tasks["build.dbt_build"].image == "registry.example/shop-dbt:1.4"


def test_of_all_tasks_that_fail_the_one_that_runs_dbt_sends_the_message(read):
    names = read(block_with("alerts", "def tell"))
    dag = the_dag(names)
    for task_id in ("build.orders", "build.dbt_build", "build.customers.test"):
        (callback,) = dag.get_task(task_id).on_failure_callback
        callback(
            {
                "dag": dag,
                "run_id": "run-1",
                "ti": SimpleNamespace(task_id=task_id, log_url="http://airflow.example/log"),
                "exception": RuntimeError("dbt ended with exit code 1: orders: Database Error"),
                "dbt_results": [
                    NodeResult(unique_id="model.shop.orders", status="error"),
                    NodeResult(unique_id="model.shop.customers", status="skipped"),
                ],
            }
        )
    expected = "shop, run-1: dbt ended with exit code 1: orders: Database Error\nfailed: orders\nhttp://airflow.example/log"
    assert [("slack", expected)] == SENT


def test_the_message_says_so_where_a_lost_worker_has_left_no_exception(read):
    names = read(block_with("alerts", "def tell"))
    ti = SimpleNamespace(task_id="build.dbt_build", log_url="-")
    names["tell"]({"dag": the_dag(names), "run_id": "run-1", "ti": ti, "dbt_results": ()})
    assert SENT == [("slack", "shop, run-1: the worker was lost\nfailed: \n-")]


def test_the_deadline_belongs_to_the_dag_and_its_callback_can_be_imported(read):
    (deadline,) = the_dag(read(block_with("alerts", "DeadlineAlert"))).deadline
    assert deadline.interval.total_seconds() == 3600
    assert deadline.callback.path.endswith(".SlackWebhookNotifier")


def test_both_forms_of_a_dag_have_the_same_pod_and_the_second_a_task_for_each_node(read):
    before, after = (
        block_with("from-kubernetes-pod-operator", text) for text in ("bash", "@dbt_k8s_project")
    )
    before, after = the_dag(read(before)).get_task("build"), the_dag(read(after))
    producer = after.get_task("build.dbt_build")
    for name in ("image", "namespace", "secrets", "container_resources", "retries", "on_finish_action"):
        assert getattr(before, name) == getattr(producer, name), name
    assert {"build.orders", "build.customers.test"} <= after.task_dict.keys()
    assert producer.upstream_task_ids == {"land_orders"}
    assert after.get_task("publish").upstream_task_ids == {"build.dbt_build"}


def test_what_the_guide_calls_the_same_is_the_same_argument():
    page = (ROOT / "docs/how-to/from-kubernetes-pod-operator.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| the same", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 20
    assert named <= known_arguments(watching_class(None))


def test_every_guide_is_in_the_list_of_guides():
    index = (ROOT / "docs/how-to/index.md").read_text()
    guides = {path.stem for path in (ROOT / "docs/how-to").glob("*.md")} - {"index"}
    assert {guide for guide in guides if f"({guide}.md)" in index and f"\n{guide}\n" in index} == guides
    assert all(blocks_of(ROOT / f"docs/how-to/{guide}.md") for guide in guides)
