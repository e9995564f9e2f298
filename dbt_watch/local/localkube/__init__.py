"""
localkube: a Kubernetes API on loopback whose pods are processes of this machine.

Unmodified clients (KubernetesPodOperator, `kubernetes`, `kubernetes_asyncio`) work with it without a cluster. It
serves the demo, this project's tests, and the tests that users write for their own DAGs; see docs/localkube.md.
"""

from dbt_watch.local.localkube.cluster import LocalKube
from dbt_watch.local.localkube.containers import Timings
from dbt_watch.local.localkube.faults import Faults
from dbt_watch.local.localkube.images import Image, Mount
from dbt_watch.local.localkube.needs import Missing, Need
from dbt_watch.local.localkube.pod_facts import PodFact
from dbt_watch.local.localkube.traffic import Fault

__all__ = ["Fault", "Faults", "Image", "LocalKube", "Missing", "Mount", "Need", "PodFact", "Timings"]
