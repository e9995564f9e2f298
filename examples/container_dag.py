"""
A pod with all that a company may want in it, around one and the same call of dbt.

The image's ENTRYPOINT runs first, packages are installed, the profile comes from a Secret, an init container prepares
the data, and another container runs beside dbt for ever. The task ends when dbt has, and the pod is deleted.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.sdk import dag
from kubernetes.client import models as k8s

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent
IMAGE = os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest")
DATA = k8s.V1VolumeMount(name="data", mount_path="/data")


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def container():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=IMAGE,
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        project_dir="/usr/app/jaffle_shop",
        cmds=["python", "-m", "dbt.cli.main"],  # `dbt` is not on PATH, or something comes before it
        keep_entrypoint=True,  # the image's own start runs first; it may fetch secrets
        deps=True,  # `dbt deps` before
        secrets=[Secret("volume", "/etc/dbt", "dbt-profile")],
        profiles_dir="/etc/dbt",
        volumes=[k8s.V1Volume(name="data", empty_dir=k8s.V1EmptyDirVolumeSource())],
        volume_mounts=[DATA],
        init_containers=[
            k8s.V1Container(
                name="prepare",
                image=IMAGE,
                command=["/bin/sh", "-c", "echo prepared > /data/prepared"],
                volume_mounts=[DATA],
            )
        ],
        # The rest of the pod, a sidecar among it; a file works as well (pod_template_file).
        pod_template_dict={
            "metadata": {"labels": {"team": "shop"}},
            "spec": {
                "containers": [
                    {"name": "base"},
                    {
                        "name": "beside",
                        "image": IMAGE,
                        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                    },
                ]
            },
        },
        select="+stg_orders",
        tests="build",
    )
    def build():
        return dbt_build(vars={"batch": "from the container"})

    build()


container()
