"""A DAG whose tasks leave in XCom what a project leaves, without dbt and without a cluster; for a page in a real api-server."""

from datetime import datetime, timezone

from airflow.sdk import BaseOperator, TaskGroup, dag

from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import outline_of, pack_outline, pack_summary, summary_of

START = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)
NODES = {"model.shop.orders": (), "model.shop.customers": ("model.shop.orders",)}
HOSTILE = "</script><img src=x onerror=alert(1)>"


class DbtNodeSensor(BaseOperator):
    def execute(self, context):
        pass


class DbtKubernetesPodOperator(BaseOperator):
    def execute(self, context):
        nodes = [Node(key, key, "model", "shop", depends_on=before) for key, before in NODES.items()]
        watched = {f"build.{key.split('.')[2]}": (key,) for key in NODES}
        outline = outline_of(Graph(Facts("1.11.0", "shop"), nodes), NODES, watched, "build")
        results = [
            NodeResult(
                unique_id=key,
                status=status,
                started_at=START,
                finished_at=START,
                execution_time=1.5,
                message=HOSTILE if status == "error" else None,
            )
            for key, status in zip(NODES, ("success", "error"), strict=True)
        ]
        writer = JournalWriter(attempt=1)
        writer.add(results)
        writer.close(1)
        journal = [(write.key, write.value) for write in Publication(writer, will_retry=False).rest()]
        summary = pack_summary(summary_of(results, 1, 1), 1)
        for key, value in [*pack_outline(outline, 1), *journal, *summary]:
            context["ti"].xcom_push(key=key, value=value)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def made_shop():
    with TaskGroup("build"):
        producer = DbtKubernetesPodOperator(task_id="dbt_build")
        for key in NODES:
            producer >> DbtNodeSensor(task_id=key.split(".")[2])


DAGS = {"made_shop": made_shop()}
