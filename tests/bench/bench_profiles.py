"""
What a profile of a connection costs a pod: requests to Kubernetes' API, and seconds of the worker.

`python tests/bench/bench_profiles.py --pods 100` makes pods on localkube with the operator's own pod manager, one with a profile and
one without in turn, and prints medians. Airflow's answer for the connection is not among them: another request, of about 12 ms.
"""

import argparse
import logging
import statistics
import sys
import time
from collections import Counter
from types import SimpleNamespace

from aiohttp import web
from airflow.sdk import BaseHook, Connection
from kubernetes import client, config
from kubernetes.client import models as k8s

from dbt_watch import DbtProfile
from dbt_watch.airflow.pod_operator import plain_pod_manager
from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.local.localkube.accounts import Access
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.producers.secrets import hide

POSTGRES = {
    "conn_type": "postgres", "host": "db", "login": "dbt", "password": "s3cret-word", "schema": "shop"
}  # fmt: skip


class Counting:
    """Counts what the API is asked for."""

    def __init__(self):
        self.asked = Counter()

    @property
    def middleware(self):
        @web.middleware
        async def count(request, handler):
            access = Access.of(request)
            if access is not None:
                self.asked[access.verb, access.resource] += 1
            return await handler(request)

        return count


def pod_of(number):
    container = k8s.V1Container(name="base", image="tools", command=["true"])
    spec = k8s.V1PodSpec(containers=[container], restart_policy="Never")
    metadata = k8s.V1ObjectMeta(name=f"pod-{number}", namespace="default", labels={"dag_id": "bench"})
    return k8s.V1Pod(metadata=metadata, spec=spec)


def profile_of(operator, number):
    ti = SimpleNamespace(dag_id="bench", run_id="run", task_id=f"task-{number}", map_index=-1)
    return PodProfile(operator, {"ti": ti}, "default")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=100, help="of each kind")
    pods = parser.parse_args(arguments).pods
    logging.getLogger("dbt_watch").setLevel(logging.WARNING)
    BaseHook.get_connection = lambda conn_id: Connection(conn_id=conn_id, **POSTGRES)
    counting = Counting()
    with LocalKube({"tools": Image()}, middlewares=[counting.middleware]) as kube:
        graph = SimpleNamespace(
            facts=SimpleNamespace(adapter_type="postgres"),
            project_name="shop",
            nodes={f"model.shop.model_{number}": None for number in range(5_000)},
        )
        operator = SimpleNamespace(
            client=client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig))),
            callbacks=[],
            graph=graph,
            profile=DbtProfile("warehouse", schema="marts"),
        )
        manager = plain_pod_manager(operator)
        found = {"pod alone": [], "pod with a profile": [], "of that, before the first request": []}
        asked = {}
        for number in range(2 * pods):
            counting.asked.clear()
            pod, begin, cpu = pod_of(number), time.perf_counter(), time.process_time()
            if number % 2:
                profile = profile_of(operator, number)
                profile.read({})
                hide(profile.secrets)
                profile.attach(pod, "base")
                found["of that, before the first request"].append(
                    (time.perf_counter() - begin, time.process_time() - cpu)
                )
                profile.make_with(pod, manager.create_pod)
            else:
                manager.create_pod(pod)
            kind = "pod with a profile" if number % 2 else "pod alone"
            found[kind].append((time.perf_counter() - begin, time.process_time() - cpu))
            asked[kind] = {request: count for request, count in counting.asked.items() if request[0] != "get"}
    for kind, times in found.items():
        wall, cpu = (statistics.median(each) * 1000 for each in zip(*times, strict=True))
        requests = ", ".join(f"{verb} {resource}" for verb, resource in asked.get(kind, ()))
        print(f"{kind:36} {wall:6.1f} ms  CPU {cpu:5.1f} ms  {requests}")


if __name__ == "__main__":
    main(sys.argv[1:])
