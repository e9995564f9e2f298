"""
What a worker's process has taken when its task would begin, for `bench_worker_pods`.

The DAG files of that measurement end with `measure(dag, ...)`: instead of doing its work, the task writes what there is to know of its
process and of the supervisor that started it, and both end.
"""

import json
import os
import sys
import time
from pathlib import Path

from airflow.sdk import get_parsing_context


def measure(dag, decoded=()):
    """
    Have the task that this process will run write figures instead of doing its work.

    :param decoded: the manifests that were decoded
    """
    wanted = get_parsing_context().task_id
    if wanted is not None:
        dag.task_dict[wanted].execute = lambda context: write(len(dag.task_dict), len(decoded))


def write(tasks, decoded):
    """Write the figures, and end."""
    began_at_execute = time.time()
    import psutil  # noqa: PLC0415 - not among what is measured

    here = psutil.Process()
    both = [here, here.parent()]
    figures = {
        "seconds": began_at_execute - float(os.environ["MEASURED_SINCE"]),
        "cpu": sum(sum(process.cpu_times()[:2]) for process in both),
        "megabytes": sum(process.memory_full_info().pss for process in both) / 1e6,
        "modules": len(sys.modules),
        "kubernetes": any(
            name.startswith(("kubernetes.client.api", "kubernetes.client.models")) for name in sys.modules
        ),
        "tasks": tasks,
        "decoded": decoded,
    }
    Path(os.environ["MEASURED_FILE"]).write_text(json.dumps(figures))
    os._exit(0)
