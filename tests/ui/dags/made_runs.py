"""
Projects without dbt and without a cluster: their tasks leave in XCom what a project leaves, at the pace that a test wants.

What a browser shows of them is what it shows of any other run, and there may be thousands of nodes.
"""

import time
from datetime import datetime, timedelta, timezone

from airflow.sdk import BaseOperator, dag, task_group

from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import (
    PHASE_KEY,
    PhaseNote,
    encode_phase,
    outline_of,
    pack_outline,
    pack_summary,
    summary_of,
)

HOSTILE = "</script><script>document.title='HACKED'</script><img src=x onerror=\"document.title='HACKED'\">"
WIDTH = 30


def lineage(count):
    """Return a project in layers, each node of which depends on three of the layer before."""
    return {
        f"model.shop.m{number:04d}": [
            f"model.shop.m{(number // WIDTH - 1) * WIDTH + (number + step) % WIDTH:04d}" for step in range(3)
        ]
        if number >= WIDTH
        else []
        for number in range(count)
    }


class DbtNodeSensor(BaseOperator):
    def execute(self, context):
        pass


class DbtKubernetesPodOperator(BaseOperator):
    """Tells of a run of dbt: first what it waits for, then node by node."""

    def __init__(self, *, count, group, pace, failing=None, hostile=False, **kwargs):
        super().__init__(**kwargs)
        self.count, self.group, self.pace, self.failing, self.hostile = count, group, pace, failing, hostile

    def execute(self, context):
        ti = context["ti"]
        parents = lineage(self.count)
        if self.hostile:
            parents[f"model.shop.{HOSTILE}"] = ["model.shop.m0000"]
        nodes = [
            Node(
                key,
                key,
                "model",
                "shop",
                path=f"models/{number}.sql",
                depends_on=tuple(before),
                description="A model.",
            )
            for number, (key, before) in enumerate(parents.items())
        ]
        watched = {f"{self.group}.{key.split('.')[2]}": (key,) for key in parents if self.count <= WIDTH}
        for key, value in pack_outline(
            outline_of(Graph(Facts("1.11.0", "shop"), nodes), parents, watched, self.group), 1
        ):
            ti.xcom_push(key=key, value=value)
        note = PhaseNote("pod", "pod pending: ImagePullBackOff: not yet", time.time(), 1, self.group)
        ti.xcom_push(key=PHASE_KEY, value=encode_phase(note))
        writer = JournalWriter(attempt=ti.try_number)
        publication = Publication(writer, will_retry=False, began=time.time(), interval=0)
        self.flush(ti, publication)
        time.sleep(self.pace * 3)
        begin, results, failed = datetime.now(timezone.utc), [], set()
        for number, (key, before) in enumerate(parents.items()):
            at = begin + timedelta(seconds=number * 0.05)
            told = {
                "unique_id": key,
                "resource_type": "model",
                "started_at": at,
                "attempt": ti.try_number,
                "invocation_id": "i",
            }
            if failed & set(before):
                failed.add(key)
                result = NodeResult(
                    **told, status="skipped", finished_at=at, skipped_because=(f"model.shop.{self.failing}",)
                )
            elif key == f"model.shop.{self.failing}" or HOSTILE in key:
                failed.add(key)
                result = NodeResult(
                    **told, status="error", finished_at=at, execution_time=0.4, sql="select order_totl from raw",
                    message=f"Binder Error: no column order_totl {HOSTILE}",
                )  # fmt: skip
            else:
                took = 0.1 + number * 7919 % 3000 / 1000
                result = NodeResult(
                    **told, status="success", finished_at=at + timedelta(seconds=took), execution_time=took, rows_affected=number,
                )  # fmt: skip
            results.append(result)
            if self.pace:
                writer.add([NodeResult(**told, status="started")])
                self.flush(ti, publication)
                time.sleep(self.pace)
                writer.add([result])
                self.flush(ti, publication)
        exit_code = int(bool(failed))
        writer.add(results)
        writer.close(exit_code)
        self.flush(ti, publication)
        for key, value in pack_summary(summary_of(results, exit_code, ti.try_number), ti.try_number):
            ti.xcom_push(key=key, value=value)
        if failed:
            raise RuntimeError("a node failed")

    @staticmethod
    def flush(ti, publication):
        for write in publication.rest():
            ti.xcom_push(key=write.key, value=write.value)


def project(group, count, **options):
    producer = DbtKubernetesPodOperator(task_id="dbt_build", count=count, group=group, **options)
    if count <= WIDTH:
        for key in lineage(count):
            producer >> DbtNodeSensor(task_id=key.split(".")[2], trigger_rule="all_done")


def made(dag_id, *groups, mapped=False, **options):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        for group, count in groups:

            @task_group(group_id=group)
            def shop(number=0, group=group, count=count):
                project(group, count, **options)

            if mapped:
                shop.expand(number=[0, 1])
            else:
                shop()

    make()


made("made_live", ("shop", 8), pace=1.5)
made("made_failing", ("shop", 30), pace=0, failing="m0000", hostile=True)
made("made_two", ("shop", 4), ("bank", 5), pace=0)
made("made_mapped", ("shop", 3), mapped=True, pace=0)
made("made_large", ("shop", 3000), pace=0, failing="m1500")
