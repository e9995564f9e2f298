"""What a DAG file asks for, as a process of its own finds it out, and what is said where that is not given."""

import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import Missing, Need
from dbt_watch.local.run import policy
from dbt_watch.local.run.asked import AskedDag, AskedDags, AskedNeed, AskedTask
from dbt_watch.local.run.connections import taken_over
from dbt_watch.local.run.environment import RunEnvironment, load
from dbt_watch.local.run.preparation import (
    PreparationError,
    UserInput,
    chosen_dag,
    claims_of,
    images_for,
    option_for,
)
from dbt_watch.local.run.pyproject import Pyproject
from dbt_watch.local.run.stand_ins import stand_ins

SHOP_DAG = Path(__file__).parent / "dags/shop_dag.py"
IMAGE = "registry.example/shop-dbt:1.4"
MORE_DAGS = """
    from airflow.sdk import dag, task
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from datetime import datetime

    @dag(schedule=None)
    def mapped():
        KubernetesPodOperator.partial(task_id="each", image="tools:2", in_cluster=True).expand(arguments=[["a"], ["b"]])

    @dag(schedule=None)
    def told_by_templates():
        KubernetesPodOperator(task_id="some", image="tools:{{ params.version }}", kubernetes_conn_id=None)

    mapped()
    told_by_templates()
"""


@pytest.fixture(scope="session")
def asked(project, tmp_path_factory):
    """What the DAGs of a folder ask for: the shop's, two in one file, and a file that cannot be imported."""
    folder, workspace = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("workspace")
    (folder / "shop_dag.py").write_text(SHOP_DAG.read_text())
    (folder / "more.py").write_text(textwrap.dedent(MORE_DAGS))
    (folder / "broken.py").write_text("from airflow.sdk import dag\n\ndef fail():\n    1 / 0\n\nfail()\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SHOP_MANIFEST", str(project / "target/manifest.json"))
        return load(folder, workspace, taken_over({}), ["customers"])


def dag_of(asked, dag_id):
    return next(dag for dag in asked.dags if dag.dag_id == dag_id)


def task_of(dag, task_id):
    return next(task for task in dag.tasks if task.task_id == task_id)


def test_a_project_asks_for_its_image_in_a_place(asked):
    dag = dag_of(asked, "shop")
    build = task_of(dag, "build.dbt_build")
    assert build.needs == (AskedNeed(kind="image", name=IMAGE),)
    assert (build.project, build.project_dir, build.group) == ("jaffle_shop", "/srv/shop", "build")
    assert (build.runs_dbt, build.connection) == (True, "production")
    assert (dag.params, dag.pools) == (("break_model",), ("default_pool", "warehouse"))
    assert dag.select_error is None


def test_a_pod_by_hand_asks_for_a_key_of_a_secret_and_a_claim(asked):
    dag = dag_of(asked, "shop")
    assert task_of(dag, "export").needs == (
        AskedNeed(kind="image", name="registry.example/tools:2"),
        AskedNeed(kind="secret", name="warehouse", key="password"),
        AskedNeed(kind="claim", name="out"),
    )
    assert claims_of(dag) == {"out"}


def test_a_mapped_pod_asks_for_its_image(asked):
    assert AskedNeed(kind="image", name="tools:2") in task_of(dag_of(asked, "mapped"), "each").needs


def test_what_only_a_template_tells_is_not_asked_for_beforehand(asked):
    assert task_of(dag_of(asked, "told_by_templates"), "some").needs == ()


def test_a_file_that_cannot_be_imported_is_told_with_its_whole_stack_trace(asked):
    ((file, trace),) = asked.errors.items()
    assert file.endswith("broken.py")
    assert "in fail" in trace
    assert "ZeroDivisionError" in trace
    with pytest.raises(PreparationError, match=r"(?s)broken.py cannot be imported:.*ZeroDivisionError"):
        chosen_dag(asked, Path(file), None)


def test_the_only_dag_needs_no_name():
    dag = AskedDag(dag_id="shop", file="shop.py")
    assert chosen_dag(AskedDags(dags=(dag,)), Path("shop.py"), None) is dag


def test_one_of_several_dags_has_to_be_named(asked):
    several = AskedDags(dags=asked.dags)
    with pytest.raises(ArgumentError, match=r"--dag-id=None: expected a DAG of .*: mapped, shop, told_by"):
        chosen_dag(several, SHOP_DAG, None)
    with pytest.raises(ArgumentError, match=r"--dag-id='shopp'.*did you mean shop"):
        chosen_dag(several, SHOP_DAG, "shopp")
    with pytest.raises(ArgumentError, match=r"these cannot be imported: .*broken\.py"):
        chosen_dag(asked, SHOP_DAG.parent, None)
    assert chosen_dag(asked, SHOP_DAG.parent, "shop").dag_id == "shop"


def test_a_file_without_a_dag_is_told():
    with pytest.raises(PreparationError, match=r"there is no DAG in shop.py"):
        chosen_dag(AskedDags(), Path("shop.py"), None)


def given(options=(), near=Path(os.devnull), secrets=None, config_maps=None):
    return UserInput(stand_ins(options, Pyproject(None, near)), secrets or {}, config_maps or {}, {}, near)


def test_what_is_missing_is_named_all_at_once_with_the_options_that_give_it(asked, project):
    with pytest.raises(PreparationError) as told:
        images_for(dag_of(asked, "shop"), given(near=project.parent))
    assert [line.strip() for line in str(told.value).splitlines()[1:]] == [
        "--image registry.example/tools:2=[PROJECT],VENV  (for export)",
        f"--image {IMAGE}={project}  (for build.dbt_build)",
        "--secret warehouse:password=VALUE  (for export)",
    ]


def test_a_project_is_mounted_where_the_dag_looks_for_it(asked, project):
    options = [f"{IMAGE}={project}", "registry.example/tools:2=,"]
    images = images_for(dag_of(asked, "shop"), given(options, secrets={"warehouse": {"password": "x"}}))
    assert images[IMAGE].mounts == {"/srv/shop": project}


def task(task_id="build", place="/srv/a", name="jaffle_shop", image=IMAGE, **more):
    need = AskedNeed(kind="image", name=image)
    return AskedTask(task_id=task_id, operator="X", needs=(need,), project=name, project_dir=place, **more)


def mounted(tasks, project):
    dag = AskedDag(dag_id="shop", file="shop.py", tasks=tuple(tasks))
    return list(images_for(dag, given([f"{IMAGE}={project}"]))[IMAGE].mounts)


def test_of_several_projects_in_an_image_that_of_this_name_counts(project):
    assert mounted([task(), task(place="/srv/b", name="other")], project) == ["/srv/a"]


def test_a_project_whose_place_nobody_says_has_one_of_its_own_name(project):
    assert mounted([task(place=None)], project) == [f"/usr/app/{project.name}"]


def test_a_project_that_is_looked_for_in_two_places_needs_a_word(project):
    with pytest.raises(ArgumentError, match=r"mount=None: expected the project's path .*/srv/a and /srv/b"):
        mounted([task(), task(place="/srv/b")], project)


def test_a_task_that_signs_in_to_a_cloud_is_refused():
    dag = AskedDag(dag_id="shop", file="shop.py", tasks=(task(refusal="X signs in to Google"),))
    with pytest.raises(PreparationError, match="build: X signs in to Google"):
        images_for(dag, given())


def test_a_whole_secret_is_asked_for_by_the_keys_that_others_name():
    needs = (AskedNeed(kind="secret", name="db"), AskedNeed(kind="secret", name="db", key="user"))
    dag = AskedDag(dag_id="a", file="a.py", tasks=(AskedTask(task_id="t", operator="X", needs=needs),))
    with pytest.raises(PreparationError) as told:
        images_for(dag, given())
    assert str(told.value).count("--secret") == 1
    assert images_for(dag, given(secrets={"db": {"user": "x"}})) == {}


def test_each_need_has_an_option():
    assert option_for(Need("image", "shop:1")) == "--image shop:1=PROJECT[,VENV]"
    assert option_for(Need("config map", "files", "a.csv")) == "--config-map files:a.csv=VALUE"
    assert option_for(Need("secret", "db")) == "--secret db:KEY=VALUE"
    assert "claim out" in option_for(Need("claim", "out"))


def environment_of(*looks):
    """An environment whose localkube misses something at each of some looks."""
    dag, left = AskedDag(dag_id="shop", file="shop.py"), list(looks)
    made = RunEnvironment(dag, Path("shop.py"), images={}, given=given(), taken=taken_over({}), select=None)
    made.kube = SimpleNamespace(missing=lambda: left.pop(0))
    return made


def test_an_image_that_only_a_template_names_ends_the_run_at_once():
    environment = environment_of([Missing("dbt/shop-x7", Need("image", "shop:2"))])
    with pytest.raises(PreparationError, match=r"dbt/shop-x7 asks for the image shop:2.*: --image shop:2="):
        environment.check()


def test_a_secret_may_come_a_moment_after_its_pod():
    missing = [Missing("dbt/shop-x7", Need("secret", "db", "user"))]
    environment = environment_of(missing, [], missing, missing)
    for _ in range(3):
        environment.check()
    with pytest.raises(PreparationError, match=r"secret db with the key user.*: --secret db:user=VALUE"):
        environment.check()


def test_the_policy_leads_pods_to_localkube_whatever_cluster_they_name(monkeypatch):
    monkeypatch.delenv(policy.SELECT, raising=False)
    pod = SimpleNamespace(
        kubernetes_conn_id="production", in_cluster=True, config_file="/etc/kube", cluster_context="prod"
    )
    policy.task_policy(pod)
    assert (pod.in_cluster, pod.config_file, pod.cluster_context) == (None, None, None)
    assert pod.kubernetes_conn_id == "production"
    mapped = SimpleNamespace(partial_kwargs={"image": "tools:2", "in_cluster": True, "cmds": ["a"]})
    policy.task_policy(mapped)
    assert mapped.partial_kwargs == {"image": "tools:2", "cmds": ["a"]}


def test_the_policy_narrows_what_is_built_to_the_selection_of_the_run(monkeypatch):
    monkeypatch.setenv(policy.SELECT, '["+orders", "tag:nightly"]')
    producer, other = SimpleNamespace(build={"exclude": "x", "select": "all"}, watched={}), SimpleNamespace()
    policy.task_policy(producer)
    policy.task_policy(other)
    assert producer.build == {"exclude": "x", "select": ["+orders", "tag:nightly"]}
    assert vars(other) == {}


def test_only_the_file_of_the_dag_is_parsed(monkeypatch, tmp_path):
    link, file = tmp_path / "link.py", tmp_path / "shop.py"
    file.touch()
    link.symlink_to(file)
    monkeypatch.setenv(policy.DAG_FILE, str(file))
    assert policy.is_chosen(str(link))
    assert not policy.is_chosen(str(tmp_path / "other.py"))
    monkeypatch.delenv(policy.DAG_FILE)
    assert policy.is_chosen(str(tmp_path / "other.py"))
