"""
The DAGs of the end-to-end tests: the example project, each time with another thing that happens to it.

A database of its own lies in each pod, so that the runs can go on side by side.
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag, get_parsing_context, task
from gated import gated

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

IMAGE = os.environ["JAFFLE_SHOP_IMAGE"]
ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": IMAGE,
    "namespace": os.environ["JAFFLE_SHOP_NAMESPACE"],
    "project_dir": "/usr/app/jaffle_shop",
    "profiles_dir": "/usr/app/jaffle_shop",
    "env_vars": {"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
    "retry_delay": timedelta(seconds=1),
}

# Each task costs, before Airflow 3.3 the start of a worker; what does not need many makes do with some.
FEWER = {"select": "+customers", "tests": "none"}

# Runs dbt, and meanwhile writes to the same standard output whatever a Python model or a library may write.
NOISY = r"""
import os, subprocess, sys, threading
lines = [b"42", b"null", b"[1,2]", b'"text"', b'{"level":"info","data":"text"}', b'{"info":{"name":7},"data":[]}',
         b"\xff\xfe\x00binary\x1b[31m", b"x" * 1_000_000, b"{", b'{"info": {"name": "LogModelResult"}, "data": {}}', b""]
stop = threading.Event()
def shout():
    while True:
        for line in lines:
            os.write(1, line + b"\n")
        if stop.wait(0.5):
            return
noise = threading.Thread(target=shout)
noise.start()
code = subprocess.call(["dbt", *sys.argv[1:]])
stop.set()
noise.join()
sys.exit(code)
"""

# Runs dbt until it has built a table, then dies the way the kernel ends what takes too much memory.
KILLED = r"""
import os, signal, subprocess, sys
dbt = subprocess.Popen(["dbt", *sys.argv[1:]], stdout=subprocess.PIPE)
for line in dbt.stdout:
    os.write(1, line)
    if b'"LogSeedResult"' in line:
        dbt.kill()
        break
sys.exit(137)
"""

# Runs dbt as soon as no file holds back the task whose pod this is.
HELD = r"""
import os, subprocess, sys, time
while os.path.exists(os.environ["HELD_BY"]):
    time.sleep(0.1)
sys.exit(subprocess.call(["dbt", *sys.argv[1:]]))
"""


def is_wanted(dag_id):
    """Tell whether the file is loaded for this DAG: a worker needs just one."""
    return get_parsing_context().dag_id in {None, dag_id}


def case(dag_id, build=None, before=None, default_args=None, **overrides):
    """Make a DAG of one project."""
    if not is_wanted(dag_id):
        return

    @dag(
        dag_id=dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        default_args=default_args or {},
    )
    def make():
        @dbt_k8s_project(**{**ARGUMENTS, **overrides})
        def shop():
            return build

        project = shop()
        if before is not None:
            task(before)() >> project

    make()


def refuse():
    raise RuntimeError("nothing has landed")


case("quiet", env_vars={**ARGUMENTS["env_vars"], "DBT_QUIET": "1", "DBT_LOG_LEVEL": "none"}, **FEWER)
case("broken", env_vars={**ARGUMENTS["env_vars"], "BREAK_MODEL": "orders"})
# The same with fewer tasks for tests that read what a run has left, which changes when that is cleared.
case(
    "broken_for_good",
    env_vars={**ARGUMENTS["env_vars"], "BREAK_MODEL": "orders"},
    select="+customers daily_revenue",
    tests="none",
)
case("noisy", cmds=["python", "-c", NOISY], **FEWER)
case("killed", cmds=["python", "-c", KILLED], **FEWER)
case("unpullable", image="registry.invalid/nothing:1", startup_timeout_seconds=8, **FEWER)
case("held_back", before=refuse, **FEWER)
BREAKS_ONCE = {"BREAK_MODEL": "{{ 'orders' if ti.try_number == 1 else '' }}"}
case(
    "retried",
    dbt_build(vars={"batch": "of attempt {{ ti.try_number }}"}),
    retries=1,
    # For its sensors to see how the first attempt has ended, before the next one takes its journal away. Along the lineage they
    # come a while after dbt.
    retry_delay=timedelta(seconds=5 if STARTS_FROM_TRIGGER else 90),
    # What the first attempt has built must be there for the second one.
    env_vars={"JAFFLE_SHOP_DB": "/warehouse/retried.duckdb", **BREAKS_ONCE},
    **FEWER,
)
# The database of these images outlives its pods, at the path with which dbt has parsed the project: of another it would have to
# parse it anew.
case("cleared", image=f"{IMAGE}-cleared", env_vars={**ARGUMENTS["env_vars"], **BREAKS_ONCE})
# Each of its pods can be held back, so that a person has the time to clear something else meanwhile.
case(
    "crossed",
    image=f"{IMAGE}-crossed",
    env_vars={**ARGUMENTS["env_vars"], "HELD_BY": "/warehouse/{{ ti.task_id }}.held"},
    cmds=["python", "-c", HELD],
    select="+orders",
    tests="none",
)
# In a pool of two slots, in which tasks that wait are counted too; in the second case the sensors have another pool.
case(
    "narrow",
    default_args={"pool": "narrow"},
    cmds=["{{ 'false' if ti.try_number == 1 else 'dbt' }}"],
    retries=1,
    sensors="eager",
    select="+customers",
    tests="none",
)
case("narrow_producer", pool="narrow", **FEWER)
case("lineage", sensors="lineage", tests="build", select="+stg_orders")


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def marked():
    """A run that waits in the middle, and a task that waits for one node of it."""

    @task
    def after(): ...

    @dbt_k8s_project(**ARGUMENTS, cmds=gated("/warehouse/{{ dag_run.conf['gate'] }}"))
    def shop(): ...

    shop()["order_status_history"] >> after()


if is_wanted("marked"):
    marked()


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def bound():
    """Functions bound to nodes, an argument from another task, and a task that waits for one node."""

    @task
    def land():
        return "batch-7"

    @task
    def after(result):
        return result

    @dbt_k8s_project(**ARGUMENTS, **FEWER, on_finish_action="keep_pod")
    def shop(batch):
        @dbt_node("raw_orders")
        def count(result: NodeResult, factor: int):
            return {"rows": (result.rows_affected or 0) * factor, "status": result.status}

        count(factor=2)
        return dbt_build(vars={"batch": batch}, full_refresh="{{ 1 == 1 }}", threads="{{ 2 }}")

    project = shop(land())
    project["customers"] >> after(project["model.jaffle_shop.customers"].result)


if is_wanted("bound"):
    bound()
