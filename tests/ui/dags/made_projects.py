"""
Projects without dbt and without a cluster: their tasks leave in XCom what a project leaves, at the pace that a test wants.

What a browser shows of them is what it shows of any other run, and there may be thousands of nodes.
"""

import time
from datetime import datetime, timedelta, timezone

from airflow.sdk import BaseOperator, dag, task_group

from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.manifest.columns import Column
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import (
    PHASE_KEY,
    PhaseNote,
    encode_phase,
    outline_of,
    pack_columns,
    pack_outline,
    pack_summary,
    pack_tries,
    summary_of,
)
from dbt_watch.producers.retry_state import Memory

HOSTILE = "</script><script>document.title='HACKED'</script><img src=x onerror=\"document.title='HACKED'\">"
WIDTH = 30
# Of a project of more nodes, these have no tasks.
SMALL = 30


# The example project of this repository, by its lineage; its nodes and for how long each runs, in seconds.
JAFFLE_SHOP = {
    "seed.jaffle_shop.raw_customers": ((), 0.6),
    "seed.jaffle_shop.raw_orders": ((), 0.9),
    "seed.jaffle_shop.raw_payments": ((), 0.7),
    "model.jaffle_shop.stg_customers": (("seed.jaffle_shop.raw_customers",), 0.4),
    "model.jaffle_shop.stg_orders": (("seed.jaffle_shop.raw_orders",), 0.5),
    "model.jaffle_shop.stg_payments": (("seed.jaffle_shop.raw_payments",), 0.5),
    "test.jaffle_shop.not_null_stg_orders_order_id.81cfe2fe64": (("model.jaffle_shop.stg_orders",), 0.2),
    "test.jaffle_shop.unique_stg_orders_order_id.e3b841c71a": (("model.jaffle_shop.stg_orders",), 0.3),
    "test.jaffle_shop.unique_stg_customers_customer_id.c7614daada": (
        ("model.jaffle_shop.stg_customers",),
        0.2,
    ),
    "snapshot.jaffle_shop.order_status_history": (("model.jaffle_shop.stg_orders",), 1.1),
    "model.jaffle_shop.orders": (("model.jaffle_shop.stg_orders", "model.jaffle_shop.stg_payments"), 1.4),
    "test.jaffle_shop.unique_orders_order_id.fed79b3a6e": (("model.jaffle_shop.orders",), 0.3),
    "model.jaffle_shop.customers": (("model.jaffle_shop.stg_customers", "model.jaffle_shop.orders"), 1.2),
    "test.jaffle_shop.unique_customers_customer_id.c5af1ff4b1": (("model.jaffle_shop.customers",), 0.2),
    "model.jaffle_shop.daily_revenue": (("model.jaffle_shop.orders",), 0.8),
    "test.jaffle_shop.not_null_daily_revenue_day.0f1a3c9e2b": (("model.jaffle_shop.daily_revenue",), 0.2),
}
COLUMNS = (Column("id", "integer", "The key."), Column("amount", "", "What was paid, in all currencies."))
# What the first attempt builds of a project that needs two.
FIRST = frozenset(key for key in JAFFLE_SHOP if key.startswith("seed.") or ".stg_" in key)
THREADS = 3
# How long a project waits for its second attempt, in seconds: a test looks at it meanwhile.
PAUSE = 15


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
    """Ends as the node does that it stands for; `built` is one that the first of two attempts has built."""

    def __init__(self, *, fails=False, built=None, **kwargs):
        super().__init__(**kwargs)
        self.fails, self.built = fails, built

    def execute(self, context):
        if self.fails:
            raise RuntimeError("not built")
        if self.built is not None:
            at = context["dag_run"].start_date
            result = NodeResult(
                unique_id=self.built, status="success", started_at=at, finished_at=at + timedelta(seconds=1),
                execution_time=1.0, thread="Thread-1", invocation_id="i1",
            )  # fmt: skip
            return result.to_dict()
        return None


class DbtKubernetesPodOperator(BaseOperator):
    """Tells of a run of dbt: first what it waits for, then node by node."""

    def __init__(self, *, count, group, pace=0, failing=None, hostile=False, fails_once=False, **kwargs):
        super().__init__(**kwargs)
        self.count, self.group, self.pace, self.failing, self.hostile = count, group, pace, failing, hostile
        self.fails_once = fails_once

    def execute(self, context):
        ti, memory = context["ti"], Memory(context)
        parents = parents_of(self.count)
        if self.hostile:
            parents[f"model.shop.{HOSTILE}"] = ["model.shop.m0000"]
        self.tell_outline(ti, parents, memory.tries)
        writer = JournalWriter(attempt=ti.try_number)
        publication = Publication(writer, will_retry=self.fails_once, began=time.time(), interval=0)
        self.flush(ti, publication)
        time.sleep(self.pace * 2)
        results, failed = self.build(ti, parents, writer, publication)
        exit_code = int(bool(failed))
        writer.add(results)
        writer.close(exit_code, threads=THREADS + 1)
        self.flush(ti, publication)
        for key, value in pack_summary(summary_of(results, exit_code, ti.try_number), ti.try_number):
            ti.xcom_push(key=key, value=value)
        if failed:
            memory.remember_tries(results)
            raise RuntimeError("a node failed")

    def build(self, ti, parents, writer, publication):
        """Tell of each node, at the pace that is wanted; return what became of all, and which failed or were passed over."""
        is_second = self.fails_once and ti.try_number > 1
        failing = None if is_second else self.failing
        begin, results, failed = datetime.now(timezone.utc), [], set()
        free, ends = [0.0] * THREADS, {}
        for number, (key, before) in enumerate(parents.items()):
            if is_second and key in FIRST:
                ends[key] = 0.0
                continue
            took = JAFFLE_SHOP[key][1] if key in JAFFLE_SHOP else 0.1 + number * 7919 % 3000 / 1000
            thread = free.index(min(free))
            start = max([free[thread], *(ends[parent] for parent in before)])
            free[thread] = ends[key] = start + took
            at, end = begin + timedelta(seconds=start), begin + timedelta(seconds=start + took)
            if self.pace:
                at = datetime.now(timezone.utc)
                end = at + timedelta(seconds=took * self.pace)
            told = {
                "unique_id": key, "resource_type": key.split(".")[0], "started_at": at, "attempt": ti.try_number,
                "invocation_id": f"i{ti.try_number}", "thread": f"Thread-{thread + 1}",
            }  # fmt: skip
            if failed & set(before):
                failed.add(key)
                free[thread] = ends[key] = start
                result = NodeResult(**told, status="skipped", finished_at=at, skipped_because=(failing,))
            elif key == failing:
                failed.add(key)
                hostile = f" {HOSTILE}" if self.hostile else ""
                result = NodeResult(
                    **told, status="error", finished_at=end, execution_time=took, sql="select order_totl\nfrom stg_orders",
                    message=f'Binder Error: Referenced column "order_totl" not found in FROM clause!{hostile}',
                )  # fmt: skip
            else:
                kind = "pass" if key.startswith("test.") else "success"
                result = NodeResult(
                    **told,
                    status=kind,
                    finished_at=end,
                    execution_time=(end - at).total_seconds(),
                    rows_affected=number,
                )
            results.append(result)
            if self.pace:
                writer.add([NodeResult(**told, status="started")])
                self.flush(ti, publication)
                time.sleep((end - at).total_seconds())
                writer.add([result])
                self.flush(ti, publication)
        return results, failed

    def tell_outline(self, ti, parents, tries):
        nodes = [
            Node(
                key, key, key.split(".")[0], "shop", path=f"models/{key.split('.')[2]}.sql", depends_on=tuple(before),
                description="One row for each order, with what was paid for it.",
            )
            for key, before in parents.items()
        ]  # fmt: skip
        is_small = len(parents) <= SMALL
        watched = {f"{self.group}.{task_of(key)}": (key,) for key in parents if is_small}
        graph = Graph(Facts("1.11.0", "shop"), nodes)
        notes = [
            *(pack_tries(tries, ti.try_number) if tries else []),
            *pack_columns({key: COLUMNS for key in parents if is_small}, ti.try_number),
            *pack_outline(outline_of(graph, parents, watched, self.group), ti.try_number),
        ]
        for key, value in notes:
            ti.xcom_push(key=key, value=value)
        note = PhaseNote("pod", "pod pending: ImagePullBackOff: not yet", time.time(), 1, self.group)
        ti.xcom_push(key=PHASE_KEY, value=encode_phase(note))

    @staticmethod
    def flush(ti, publication):
        for write in publication.rest():
            ti.xcom_push(key=write.key, value=write.value)


def parents_of(count):
    """Return what each node of a project depends on; without a number, of the example project."""
    return lineage(count) if count else {key: before for key, (before, _) in JAFFLE_SHOP.items()}


def task_of(key):
    return key.split(".")[2]


def project(group, count, **options):
    producer = DbtKubernetesPodOperator(task_id="dbt_build", count=count, group=group, **options)
    if len(parents_of(count)) <= SMALL:
        failed = {options.get("failing")}
        for key, before in parents_of(count).items():
            failed |= {key} if failed & set(before) else set()
            fails = key in failed and not options.get("fails_once")
            if options.get("fails_once") and key in FIRST:
                # As with a real project, it does not wait for the second attempt.
                DbtNodeSensor(task_id=task_of(key), built=key)
            else:
                producer >> DbtNodeSensor(task_id=task_of(key), trigger_rule="all_done", fails=fails)


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


made("jaffle_live", ("shop", 0), pace=3)
made("jaffle_failing", ("shop", 0), failing="model.jaffle_shop.orders")
made("made_hostile", ("shop", 4), failing="model.shop.m0000", hostile=True)
made("made_two", ("shop", 4), ("bank", 5))
made("made_mapped", ("shop", 3), mapped=True)
made(
    "made_retry", ("shop", 0), failing="model.jaffle_shop.orders", fails_once=True,
    retries=1, retry_delay=timedelta(seconds=PAUSE),
)  # fmt: skip
made("made_large", ("shop", 3000), failing="model.shop.m1500")
