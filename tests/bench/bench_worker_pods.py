"""
What a worker pod takes from the start of its process to the task's `execute`: seconds, CPU and memory.

Usage: python tests/bench/bench_worker_pods.py [--nodes N] [--runs N] [--json FILE]. The process is the one that the KubernetesExecutor starts in a
pod, with the command that it gives it; a server on loopback stands in for Airflow's, and says of each task that it may run. Memory
is that of both of its processes, the supervisor and the task, with what they share counted once. Medians of some, after one that is
thrown away.

`warm`: the graph of the manifest is in the cache on disk, where another process has put it. `cold`: it is not, as in a pod without a
volume for it. The peer, astronomer-cosmos, is measured where it is installed, and nothing else there.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench_graph import manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PATIENCE_S: Final = 300
OURS: Final = """
from datetime import datetime
from airflow.sdk import DAG
from dbt_watch import dbt_k8s_project
from dbt_watch.core.manifest import load
from measured_task import measure

decoded, decode = [], load.decode_manifest
load.decode_manifest = lambda *given, **named: decoded.append(1) or decode(*given, **named)
with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @dbt_k8s_project(manifest="manifest.json", image="shop:1", project_dir="/usr/app/shop")
    def shop(): ...

    shop()
measure(dag, decoded)
"""
FLOOR: Final = """
from datetime import datetime
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from measured_task import measure

with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    BashOperator(task_id="bash", bash_command="true")
measure(dag)
"""
PEER: Final = """
from datetime import datetime
from pathlib import Path
from cosmos import DbtDag, ExecutionConfig, ExecutionMode, LoadMode, ProfileConfig, ProjectConfig, RenderConfig
from measured_task import measure

dag = DbtDag(
    project_config=ProjectConfig(manifest_path=str(Path(__file__).with_name("manifest.json")), project_name="shop"),
    profile_config=ProfileConfig(profile_name="shop", target_name="dev", profiles_yml_filepath="/usr/app/shop/profiles.yml"),
    render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
    execution_config=ExecutionConfig(
        execution_mode=ExecutionMode.%s, dbt_project_path="/usr/app/shop", dbt_executable_path="dbt"
    ),
    operator_args={"image": "shop:1", "namespace": "default"},
    dag_id="shop",
    schedule=None,
    start_date=datetime(2026, 1, 1),
)
measure(dag)
"""
# Which task is measured: the first whose id fits.
NODE, PRODUCER = "a node", "the producer"


class Stub(BaseHTTPRequestHandler):
    """Answers for Airflow's execution API: each task may run, and there is nothing else to know."""

    protocol_version = "HTTP/1.1"

    def do_PATCH(self) -> None:
        self._answer(RUN if self.path.endswith("/run") else None)

    def do_PUT(self) -> None:
        self._answer(None)

    do_POST = do_DELETE = do_PUT  # noqa: N815

    def do_GET(self) -> None:
        self._answer({"detail": {"reason": "not_found", "message": "nothing"}}, 404)

    def _answer(self, body: Any, status: int = 200) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status if content else 204)
        self.send_header("Content-Type", "application/json")
        if content:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


MOMENT = "2026-01-01T00:00:00Z"
RUN: Final = {
    "dag_run": {
        "dag_id": "shop", "run_id": "r", "logical_date": MOMENT, "data_interval_start": MOMENT, "data_interval_end": MOMENT,
        "run_after": MOMENT, "start_date": MOMENT, "end_date": None, "run_type": "manual", "state": "running", "conf": {},
        "consumed_asset_events": [], "partition_key": None,
    },
    "max_tries": 0,
}  # fmt: skip


@contextlib.contextmanager
def stub() -> Iterator[str]:
    """Serve the stub; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/execution/"
    finally:
        server.shutdown()


class Bench:
    """
    Starts the processes of worker pods.

    :param directory: where the DAG file, the manifest and everything that they write is
    :param server: the address of the api-server
    :param runs: how often each is measured
    """

    def __init__(self, directory: Path, server: str, runs: int) -> None:
        self._directory = directory
        self._runs = runs
        self._env = {
            **{
                name: text
                for name, text in os.environ.items()
                if not name.startswith(("AIRFLOW", "_AIRFLOW"))
            },
            "AIRFLOW_HOME": str(directory / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(directory / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": server,
            "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "240",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(directory / "logs"),
            "PYTHONPATH": str(HERE / "load"),
            "MEASURED_FILE": str(directory / "measured.json"),
            "no_proxy": "127.0.0.1,localhost",
            # The peer tells its makers of each DAG that is loaded, and there is no way to them from here.
            "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
            "AIRFLOW__COSMOS__ENABLE_CACHE": "False",
            "DO_NOT_TRACK": "1",
        }

    def task_ids(self) -> list[str]:
        """Load the DAG file as the DAG processor does, which fills the caches, and return the ids of its tasks."""
        script = "import sys, runpy; print('IDS', *runpy.run_path(sys.argv[1])['dag'].task_dict)"
        command = [sys.executable, "-c", script, str(self._directory / "dags/shop.py")]
        done = subprocess.run(command, env=self._warm, check=True, stdout=subprocess.PIPE, text=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("IDS ")]
        return line.split()[1:]

    @property
    def _warm(self) -> dict[str, str]:
        return {**self._env, "DBT_WATCH_CACHE_DIR": str(self._directory / "cache")}

    def median(self, task_id: str, *, is_cold: bool = False) -> dict[str, Any]:
        """Measure a task some times, and return the median of each figure."""
        found = [self._measure(task_id, is_cold=is_cold) for _ in range(1 + self._runs)][1:]
        return {name: statistics.median(each[name] for each in found) for name in found[0]}

    def _measure(self, task_id: str, *, is_cold: bool) -> dict[str, Any]:
        workload = {
            "type": "ExecuteTask", "token": "t", "dag_rel_path": "shop.py", "bundle_info": {"name": "dags-folder"},
            "log_path": "task.log",
            "ti": {
                "id": str(uuid.UUID(int=int(time.time() * 1000) << 80 | 7 << 76 | 2 << 62 | 1)), "task_id": task_id,
                "dag_id": "shop", "run_id": "r", "try_number": 1, "map_index": -1, "pool_slots": 1, "priority_weight": 1,
                "queue": "default", "dag_version_id": str(uuid.uuid4()),
            },
        }  # fmt: skip
        file = Path(self._env["MEASURED_FILE"])
        file.unlink(missing_ok=True)
        env = {**self._env, "DBT_WATCH_CACHE_DIR": ""} if is_cold else self._warm
        module = "airflow.sdk.execution_time.execute_workload"
        command = [sys.executable, "-m", module, "--json-string", json.dumps(workload)]
        env["MEASURED_SINCE"] = repr(time.time())
        done = subprocess.run(
            command,
            env=env,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
        if not file.exists():
            raise RuntimeError(done.stdout.decode(errors="replace")[-5000:])
        figures: dict[str, Any] = json.loads(file.read_text())
        return figures


def rows(nodes: int, runs: int) -> Iterator[dict[str, Any]]:
    """Yield what each kind of worker pod takes."""
    has_peer = importlib.util.find_spec("cosmos") is not None
    with tempfile.TemporaryDirectory(prefix="dbt-watch-worker-") as name, stub() as server:
        directory = Path(name)
        (directory / "dags").mkdir()
        # A model has two tests.
        (directory / "dags/manifest.json").write_text(json.dumps(manifest_of(nodes // 3)))
        for way, text, tasks in peers() if has_peer else ours():
            (directory / "dags/shop.py").write_text(text)
            bench = Bench(directory, server, runs)
            known = bench.task_ids()
            for label, part, is_cold in tasks:
                (task_id, *_) = [each for each in known if part in each]
                load = os.getloadavg()[0]
                yield {
                    "way": way, "task": label, "nodes": nodes, "cold": is_cold, "load": load,
                    **bench.median(task_id, is_cold=is_cold),
                }  # fmt: skip


Task = tuple[str, str, bool]


def ours() -> list[tuple[str, str, list[Task]]]:
    """Return our DAG files, each with the tasks to measure: what they are called, a part of their id, and whether cold."""
    of_project = [(NODE, "shop.model_", False), (NODE, "shop.model_", True)]
    of_project += [(PRODUCER, "shop.dbt_build", False), (PRODUCER, "shop.dbt_build", True)]
    return [("floor", FLOOR, [("a BashOperator", "bash", False)]), ("dbt-watch", OURS, of_project)]


def peers() -> list[tuple[str, str, list[Task]]]:
    """Return the DAG files of the peer, likewise."""
    return [
        ("cosmos KUBERNETES", PEER % "KUBERNETES", [(NODE, ".run", False)]),
        (
            "cosmos WATCHER_KUBERNETES",
            PEER % "WATCHER_KUBERNETES",
            [(NODE, ".run", False), (PRODUCER, "producer", False)],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are kept")
    arguments = parser.parse_args()
    known: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        known = json.loads(arguments.json.read_text())
    print(
        f"{'way':28} {'task':16} {'':5} {'s':>6} {'CPU s':>6} {'MB':>6} {'tasks':>6} {'modules':>8} {'decodes':>7} Kubernetes"
    )
    for row in rows(arguments.nodes, arguments.runs):
        temperature = "cold" if row["cold"] else "warm"
        print(
            f"{row['way']:28} {row['task']:16} {temperature:5} {row['seconds']:6.2f} {row['cpu']:6.2f} {row['megabytes']:6.0f}"
            f" {row['tasks']:6.0f} {row['modules']:8.0f} {row['decoded']:7.0f} {'yes' if row['kubernetes'] else 'no'}",
            flush=True,
        )
        same = ("way", "task", "cold")
        others = [each for each in known.get("workers", []) if any(each[name] != row[name] for name in same)]
        known["workers"] = [*others, row]
        if arguments.json:
            text = {**known, "workers_measured": dt.datetime.now(dt.timezone.utc).date().isoformat()}
            arguments.json.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
