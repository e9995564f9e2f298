"""
A DAG that type checkers read and nothing runs: a comment says what the line above it reveals.

`test_types.py` checks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from typing_extensions import reveal_type

from dbt_watch import (
    DbtLineage,
    NodeResult,
    PodSettings,
    dbt_api_project,
    dbt_asset,
    dbt_build,
    dbt_command,
    dbt_k8s_project,
    dbt_node,
    dbt_run_operation,
)

if TYPE_CHECKING:
    from dbt_watch.core.command import DbtBuild


@dbt_k8s_project(manifest="manifest.json", image="shop:1", tests="build", group_by="folder", retries=2)
def build(batch: str, day: str = "today") -> DbtBuild:
    @dbt_node("orders", after="node", on="any", retries=1)
    def check(result: NodeResult, floor: int) -> str:
        return f"{result.name} {floor}"

    reveal_type(check)
    # the type is def (floor: int) -> XComArg

    @dbt_node(select="tag:nightly")
    def note(result: NodeResult) -> None: ...

    reveal_type(note())
    # the type is list[XComArg]

    @dbt_node("orders", before=True)
    def cutoff(days: int) -> str:
        return f"{days} days"

    reveal_type(cutoff)
    # the type is def (days: int) -> XComArg
    cutoff(days="1")  # error: arg-type
    check(floor=1)
    check(floor="1")  # error: arg-type
    return dbt_build(vars={"batch": batch, "day": day}, full_refresh="{{ params.full_refresh }}")


@dbt_k8s_project("manifest.json", image="shop:1", freshness="before", on_stale="skip")
def nothing_to_say() -> None: ...


dbt_k8s_project("manifest.json", image="shop:1", freshness="after")  # error: call-overload
dbt_k8s_project("manifest.json", imge="shop:1")  # error: call-overload


@dbt_k8s_project("manifest.json", image="shop:1")  # error: arg-type
def says_something_else() -> int:
    return 1


reveal_type(build)
# the type is ProjectFactory[[batch: str, day: str =]]
project = build("batch-1")
reveal_type(project)
# the type is DbtProject
build(7)  # error: arg-type
build("a", "b", "c")  # error: call-arg
nothing_to_say()
reveal_type(build.partial(day="today").expand(batch=["a", "b"]))
# the type is DbtProject
reveal_type(build.override(group_id="again"))
# the type is ProjectFactory[[batch: str, day: str =]]
build.override(manifest="other/manifest.json", operator_class=KubernetesPodOperator, cluster_name="dbt")
build.override(group_by="schema")  # error: call-overload
reveal_type(project["orders"].result)
# the type is XComArg
reveal_type(project.nodes["model.shop.orders"])
# the type is DbtNode
reveal_type(project.run_operation("grant", args={"role": "reader"}, target="prod", image="shop:2"))
# the type is XComArg
project.command(["docs", "generate"], imge="shop:2")  # error: call-arg
reveal_type(dbt_command(["docs", "generate"], image="shop:1", project_dir="/usr/app"))
# the type is XComArg
dbt_run_operation("grant", conn_id="dbt_prod", select="orders")  # error: call-arg

dbt_k8s_project("manifest.json", pod_template_file="pod.yaml", env_vars={"A": "b"}, deferrable=True)
# An argument of a newer operator, or of a subclass, needs operator_class; the class itself decides when the DAG is parsed.
dbt_k8s_project("manifest.json", image="shop:1", known_to_a_newer_operator=True)  # error: call-overload
dbt_k8s_project("manifest.json", operator_class=KubernetesPodOperator, known_to_a_newer_operator=True)
dbt_k8s_project("manifest.json", image="shop:1", operator_class=object, cluster_name="dbt")
dbt_k8s_project(manifest="manifest.json", tests="every")  # error: call-overload
HEAVY = PodSettings(container_resources={"requests": {"memory": "64Gi"}}, pool="heavy")
dbt_k8s_project("manifest.json", image="shop:1", isolate={"tag:heavy": HEAVY})
dbt_k8s_project("manifest.json", image="shop:1", isolate=7)  # error: call-overload
PodSettings(imge="shop:2")  # error: call-arg
dbt_k8s_project("manifest.json", image="shop:1", lineage=DbtLineage(conn_id="warehouse"))
dbt_k8s_project("manifest.json", image="shop:1", lineage="always")  # error: call-overload
dbt_api_project("manifest.json", lineage=False)
dbt_node("orders", before=True, on="any")  # error: call-overload
dbt_node("orders", after="later")  # error: call-overload
dbt_node()  # error: call-overload
dbt_node("orders", retires=2)  # error: call-overload
dbt_node("orders", trigger_rule="all_done")  # error: call-overload
dbt_node("orders", image="shop:1")  # error: call-overload
dbt_node("orders", build=dbt_build())  # error: call-overload


@dbt_node(
    "orders", manifest="manifest.json", image="shop:1", tests="none", retries=2, build=dbt_build(empty=True)
)
def by_itself(result: NodeResult, floor: int) -> str:
    return f"{result.name} {floor}"


reveal_type(by_itself(floor=1))
# the type is XComArg
reveal_type(dbt_node(select="tag:nightly", manifest="manifest.json", image="shop:1", on="any"))
# the type is def [P] (def (NodeResult, *P.args, **P.kwargs) -> Any) -> def (*P.args, **P.kwargs) -> list[XComArg]
dbt_node("orders", select="orders", manifest="manifest.json", image="shop:1")  # error: call-overload
dbt_node("orders", manifest="manifest.json", image="shop:1", exclude="customers")  # error: call-overload
dbt_node("orders", manifest="manifest.json", image="shop:1", task_id="check")  # error: call-overload
dbt_node("orders", manifest="manifest.json", image="shop:1", build={"empty": True})  # error: call-overload
dbt_build(full_refresh=3)  # error: arg-type
dbt_build(event_time="day")  # error: arg-type
dbt_k8s_project("manifest.json", image="shop:1", assets="selected:tag:mart", assets_when="built")
dbt_k8s_project("manifest.json", image="shop:1", assets="each", assets_when="soon")  # error: call-overload
reveal_type(dbt_asset("manifest.json", "orders"))
# the type is AssetAlias
reveal_type(dbt_asset("manifest.json", "orders", namespace="bigquery://"))
# the type is Asset


@dbt_api_project(
    "manifest.json", conn_id="dbt_prod", project_dir="shop", deferrable=True, retries=2, tests="build"
)
def by_a_server(batch: str) -> DbtBuild:
    return dbt_build(vars={"batch": batch})


reveal_type(by_a_server)
# the type is ProjectFactory[[batch: str]]
reveal_type(by_a_server.override(conn_id="dbt_dev")("batch-1"))
# the type is DbtProject
dbt_api_project("manifest.json", image="shop:1")  # error: call-arg
dbt_api_project("manifest.json", con_id="dbt_prod")  # error: call-arg
dbt_api_project("manifest.json", isolate="*")  # error: call-arg
dbt_api_project("manifest.json", freshness="after")  # error: arg-type
reveal_type(dbt_node("orders", manifest="manifest.json", conn_id="dbt_prod", on="any"))
# the type is def [P] (def (NodeResult, *P.args, **P.kwargs) -> Any) -> def (*P.args, **P.kwargs) -> XComArg
dbt_node("orders", manifest="manifest.json", conn_id="dbt_prod", image="shop:1")  # error: call-overload


@dbt_node("orders")  # error: arg-type
def takes_no_result() -> Any: ...
