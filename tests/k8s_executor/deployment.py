"""
An Airflow whose executor starts a pod for each task, beside a cluster whose pods are processes.

Each component signs in to the cluster with an account of its own, with the Roles of docs/kubernetes-executor.md. The worker pods
are made of its template; a kubeconfig stands in for the token of their service account, which localkube does not give.
"""

import base64
import contextlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web
from kubernetes import client, config
from page import roles, template

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.local.localkube.accounts import Access
from dbt_watch.local.localkube.errors import expired

HERE = Path(__file__).parent
WORKER_NAMESPACE, DBT_NAMESPACE = "airflow", "dbt"
REPOSITORY, TAG = "registry.example/airflow", "3.3"
WORKER_IMAGE, BAKED_IMAGE = f"{REPOSITORY}:{TAG}", f"{REPOSITORY}:baked"
DAGS_IN_POD, BAKED_IN_POD, LOGS_IN_POD = "/opt/airflow/dags", "/opt/airflow/baked", "/opt/airflow/logs"
# So that the death of a scheduler, and a pod that never starts, are noticed within seconds instead of minutes.
DEATHS_ARE_NOTICED_SOON = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
}
# What docs/kubernetes-executor.md says of the executor's settings.
OF_THE_PAGE = {
    "AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE": "True",
    "AIRFLOW__KUBERNETES_EXECUTOR__TASK_PUBLISH_MAX_RETRIES": "-1",
}
# What a worker is told, beside what differs in it.
SHARED_WITH_WORKERS = (
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__HOSTNAME_CALLABLE",
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT",
    "AIRFLOW__CORE__LOAD_EXAMPLES",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED",
    "NO_PROXY",
    "no_proxy",
)


class ByAccount(LocalAirflow):
    """
    An Airflow each of whose components has more environment of its own.

    :ivar of_component: these variables, by the component
    """

    def __init__(self, *arguments, **named):
        self.of_component = {}
        super().__init__(*arguments, **named)

    def _run(self, name, *arguments):
        common = self.env
        self.env = {**common, **self.of_component.get(name.removesuffix(" 2"), {})}
        try:
            super()._run(name, *arguments)
        finally:
            self.env = common


class Recorder:
    """
    Notes who asks the cluster for what, as far as they may.

    :ivar granted: the verbs and resources, by the token
    :ivar too_old: so many of the next watches are told that their version is too old, as an event
    """

    def __init__(self):
        self.granted = {}
        self.too_old = 0

    @property
    def middleware(self):
        @web.middleware
        async def note(request, handler):
            access = Access.of(request)
            if access is not None:
                token = request.headers["Authorization"].removeprefix("Bearer ")
                self.granted.setdefault(token, set()).add((access.verb, access.resource))
                if access.verb == "watch" and self.too_old > 0:
                    self.too_old -= 1
                    event = {"type": "ERROR", "object": expired("too old resource version: 1 (2)").status()}
                    return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
            return await handler(request)

        return note

    def by(self, kubeconfig):
        token = json.loads(Path(kubeconfig).read_text())["users"][0]["user"]["token"]
        return self.granted.get(token, set())


@dataclass
class Deployment:
    """
    What runs.

    :ivar dags: the folder of the DAG files on the host
    :ivar accounts: the kubeconfigs, by the name of the account
    """

    airflow: ByAccount
    kube: LocalKube
    dags: Path
    recorder: Recorder
    accounts: dict = field(default_factory=dict)

    @property
    def core(self):
        """The official client, which may do everything."""
        return client.CoreV1Api(config.new_client_from_config(str(self.kube.kubeconfig)))

    def pods(self, run, namespace=WORKER_NAMESPACE):
        """Return the pods of a run, oldest first: the facts of all that there ever were."""
        return [
            pod
            for pod in self.kube.pods()
            if pod.namespace == namespace
            and pod.labels.get("dag_id") == run.dag_id
            and pod.labels.get("run_id") == label(run.run_id)
        ]


def label(text):
    from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value  # noqa: PLC0415

    return make_safe_label_value(text)


def dbt_image(project, mounts=(), env=()):
    """Return an image that holds a project and dbt."""
    place = f"/usr/app/{project.name}"
    return Image(venv=sys.prefix, mounts={place: project, **dict(mounts)}, workdir=place, env=dict(env))


def worker_image(mounts=()):
    """Return an image with Airflow, as the official one is, and perhaps DAGs."""
    init = [str(Path(sys.prefix, "bin/python")), "-I", "-S", str(HERE / "small_init.py")]
    return Image(venv=sys.prefix, mounts=dict(mounts), workdir="/", entrypoint=init)


@contextlib.contextmanager
def deployed(
    dags,
    database,
    images,
    *,
    executor="KubernetesExecutor",
    keep_home=False,
    bundles=None,
    baked=None,
    baked_template=None,
    env=(),
):
    """
    Start all of it.

    :param dags: the folder of the DAG files
    :param database: the variables by which Airflow finds its own
    :param images: those of dbt, by their names
    :param executor: `[core] executor`
    :param bundles: returns `dag_bundle_config_list`, given the folder of each: on the host, and in a worker pod
    :param baked: a folder of DAG files that an image has in itself
    :param baked_template: the variable that tells the DAG processor where the template of its pods is
    :param env: more variables for all components
    """
    settings = {
        **database,
        **DEATHS_ARE_NOTICED_SOON,
        **OF_THE_PAGE,
        "AIRFLOW__CORE__EXECUTOR": executor,
        "AIRFLOW__CORE__PARALLELISM": "16",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": WORKER_NAMESPACE,
        "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": REPOSITORY,
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": TAG,
        **dict(env),
    }
    airflow = ByAccount(dags, env=settings, keep_home=keep_home)
    with contextlib.ExitStack() as stack:
        stack.callback(airflow.stop)
        logs, credentials = airflow.home / "logs", airflow.home / "kube"
        logs.mkdir()
        credentials.mkdir()
        recorder = Recorder()
        in_image = {BAKED_IN_POD: baked} if baked else {}
        kube = LocalKube(
            {WORKER_IMAGE: worker_image(), BAKED_IMAGE: worker_image(in_image), **images},
            namespaces=[WORKER_NAMESPACE, DBT_NAMESPACE],
            claims={"airflow-dags": dags, "airflow-logs": logs},
            middlewares=[recorder.middleware],
        )
        stack.enter_context(kube)
        accounts = {
            name: kube.kubeconfig_for(role["rules"], namespace=role["metadata"]["namespace"], name=name)
            for name, role in roles().items()
        }
        # In a worker pod another file lies at the same place: a deferred task takes the path along.
        shutil.copy(accounts["airflow-triggerer"], credentials / "config")
        extra = {"kube_config_path": str(credentials / "config")}
        connection = json.dumps({"conn_type": "kubernetes", "extra": extra})
        airflow.env["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = connection
        airflow.env["AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"] = str(airflow.home / "worker.yaml")
        if bundles is not None:
            on_host = bundles(str(dags), str(baked))
            airflow.env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(on_host)
        of_worker = {
            **{name: airflow.env[name] for name in SHARED_WITH_WORKERS if name in airflow.env},
            "AIRFLOW_HOME": "/opt/airflow",
            "AIRFLOW__CORE__DAGS_FOLDER": DAGS_IN_POD,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": LOGS_IN_POD,
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": connection,
        }
        if bundles is not None:
            in_pod = bundles(DAGS_IN_POD, BAKED_IN_POD)
            of_worker["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(in_pod)
        with config.new_client_from_config(str(kube.kubeconfig)) as api:
            core = client.CoreV1Api(api)
            write_secret(core, "airflow-worker", of_worker)
            write_secret(
                core, "airflow-worker-kubeconfig", {"config": accounts["airflow-worker"].read_text()}
            )
        write_template(airflow.home / "worker.yaml", credentials)
        write_template(airflow.home / "baked.yaml", credentials, without="dags")
        if baked_template is not None:
            airflow.env[baked_template] = str(airflow.home / "baked.yaml")
        for component in ("scheduler", "api-server"):
            path = str(accounts[f"airflow-{component}"])
            airflow.of_component[component] = {"AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": path}
        airflow.start()
        yield Deployment(airflow, kube, dags, recorder, accounts)


def write_secret(core, name, texts):
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name=name), data=data)
    core.create_namespaced_secret(WORKER_NAMESPACE, secret)


def write_template(path, credentials, *, without=None):
    """Write the template of the page, with a kubeconfig for a token, and perhaps without one of its volumes."""
    pod = template()
    spec, (base,) = pod["spec"], pod["spec"]["containers"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != without]
    base["volumeMounts"] = [mount for mount in base["volumeMounts"] if mount["name"] != without]
    spec["volumes"].append({"name": "kubeconfig", "secret": {"secretName": "airflow-worker-kubeconfig"}})
    base["volumeMounts"].append({"name": "kubeconfig", "mountPath": str(credentials), "readOnly": True})
    path.write_text(yaml.safe_dump(pod))
