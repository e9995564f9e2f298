"""What `artifacts` and `state` take while the DAG is parsed, and how dbt is called then."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.client import models as k8s

from dbt_watch import Artifacts, dbt_build, dbt_k8s_project
from dbt_watch.core.command import dbt_arguments
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.enclosed_files import EnclosedFiles, lines_of
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.core.selection.state import StateComparison, decode_state
from dbt_watch.exceptions import ArgumentError, SelectionError

PLACE = "s3://lake/{dag_id}/{run_id}/{attempt}"


@pytest.fixture
def make(dag, project):
    def make(build=None, **arguments):
        settings = {
            "manifest": project / "target/manifest.json",
            "image": "shop:1",
            "group_id": "build",
            **arguments,
        }
        return dbt_k8s_project(**settings)(lambda: build)()

    return make


def test_by_default_dbt_takes_the_place_of_all_else(make):
    producer = make().producer
    assert (producer.cmds, producer.artifacts, producer.state) == (["dbt"], None, None)


def test_a_place_alone_is_that_of_the_results(make):
    producer = make(artifacts=PLACE).producer
    assert producer.artifacts == Artifacts(PLACE)
    assert producer.cmds[:2] == ["/bin/sh", "-c"]
    assert "for name in run_results.json; do send" in producer.cmds[2]


def test_the_call_for_the_catalog_comes_before_the_build_with_its_length(make):
    producer = make(
        dbt_build(vars={"a": 1}, target="prod"), artifacts=Artifacts(PLACE, catalog=True)
    ).producer
    count, *words = dbt_arguments(producer.build, producer.selection, project_dir="/shop", docs=True)
    length = int(count.removeprefix("docs:"))
    docs, build = words[:length], words[length:]
    assert docs[-9:] == [
        "docs", "generate", "--project-dir", "/shop", "--target", "prod", "--vars", "$(DBT_WATCH_VARS)", "--no-compile",
    ]  # fmt: skip
    assert build[build.index("build") :][:3] == ["build", "--project-dir", "/shop"]


def test_the_last_good_run_is_kept_with_its_manifest(make):
    producer = make(artifacts=PLACE, state="last_success").producer
    assert producer.artifacts.manifest
    assert "DBT_WATCH_STATE_0" in producer.cmds[2]


def test_a_state_of_ones_own_needs_no_artifacts(make, tmp_path):
    producer = make(dbt_build(select="state:modified+", defer=True), state="prod/").producer
    assert producer.state.endswith("/prod")
    assert producer.state.startswith("/")
    assert producer.cmds[2].endswith('exec dbt "$@"')
    assert "--defer" in dbt_arguments(producer.build, producer.selection)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"artifacts": "target"}, "artifacts='target': expected the URL of a directory"),
        ({"artifacts": PLACE, "cmds": []}, "expected cmds with the command that runs dbt"),
        ({"state": "last_success"}, "state='last_success': expected artifacts=... as well"),
        (
            {"state": "last_success", "artifacts": PLACE, "isolate": "*"},
            "expected a project without isolate=...",
        ),
        ({"state": 7}, "state=7: expected text, or None"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, arguments, message):
    with pytest.raises(ArgumentError) as caught:
        make(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            dbt_build(select="state:modified+"),
            "select='state:modified+': expected state=... of @dbt_k8s_project",
        ),
        (
            dbt_build(exclude="result:success"),
            "exclude='result:success': expected state=... of @dbt_k8s_project",
        ),
        (dbt_build(defer=True), "defer=True: expected state=... of @dbt_k8s_project"),
    ],
)
def test_what_compares_needs_something_to_compare_with(make, build, message):
    with pytest.raises(ArgumentError) as caught:
        make(build)
    assert message in str(caught.value)


def test_a_selection_of_the_decorator_cannot_compare(make):
    with pytest.raises(
        SelectionError, match="no `state:`, since what has changed since an earlier run is not known"
    ):
        make(select="state:modified+", state="/prod")


def test_two_projects_of_a_dag_do_not_overwrite_each_other(make):
    make(artifacts=PLACE)
    with pytest.raises(ArgumentError, match=r"a URL with \{group_id\} in it: another project of this DAG"):
        make(artifacts=PLACE, group_id="again")
    make(artifacts="s3://lake", group_id="third")
    make(artifacts="s3://lake", group_id="fourth")


def left(project, before, **options):
    producer = project.producer
    content = Path(producer.manifest).read_bytes()
    now = decode_state(content, location="now")
    earlier = decode_state(before(content), location="before")
    graph = producer.graph.compared_with(StateComparison(now, earlier, since="run one of yesterday"))
    return narrowed(graph, producer.selected, producer.selection, options)


def test_only_what_has_changed_is_built_with_what_depends_on_it(make):
    found = left(make(state="/prod"), lambda content: content.replace(b"from {{ ref('stg_payments') }}", b"from x"), select="state:modified+")  # fmt: skip
    names = {unique_id.split(".")[2] for unique_id in found.nodes if unique_id.startswith("model.")}
    assert "orders" in names
    assert not {"stg_orders", "stg_customers"} & names
    words = "left out of this run by --select state:modified+: unchanged since run one of yesterday"
    assert {entry.message for entry in found.left_out} == {words}


def test_when_nothing_has_changed_nothing_is_built_and_that_is_no_error(make):
    project = make(state="/prod")
    found = left(project, lambda content: content, select="state:modified+")
    assert found.nodes == frozenset()
    assert {entry.unique_id for entry in found.left_out} == project.producer.selected


class Attempted:
    """An attempt of a task, and what it leaves in XCom."""

    def __init__(self, producer, *, run_id="one", tries=1):
        self.xcoms = {}
        self.ti = SimpleNamespace(
            dag_id="shop", run_id=run_id, task_id=producer.task_id, map_index=-1, try_number=tries, max_tries=0,
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )  # fmt: skip
        self.context = {"ti": self.ti}
        self.producer = producer
        self.attempt = SimpleNamespace(number=tries, wanted=None)

    def wanted(self):
        return self.producer._wanted_now(self.context, self.attempt)

    def ends(self, code=0, **contents):
        files = EnclosedFiles()
        for name, content in {"run_results": b'{"metadata": {}, "results": []}', **contents}.items():
            files.sift([*lines_of(f"{name}.json", gzip.compress(content))])
        self.producer._keep_artifacts(self.context, files)
        self.producer._keep_state(self.context, Closed(code), files)


@pytest.fixture
def nightly(make, tmp_path):
    def nightly(build, **more):
        arguments = {
            "artifacts": f"file://{tmp_path}/{{dag_id}}/{{run_id}}/{{attempt}}",
            "state": "last_success",
        }
        return make(build, **{**arguments, **more}).producer

    return nightly


def test_after_a_good_run_only_changes_are_built_and_without_any_there_is_no_pod(nightly):
    producer = nightly(dbt_build(select="state:modified+"))
    first = Attempted(producer)
    assert first.wanted().whole.nodes == producer.selected
    first.ends()
    assert set(first.xcoms["dbt_watch_artifacts"]["files"]) == {"run_results.json"}
    again = Attempted(producer, run_id="two").wanted()
    assert again.whole is None
    assert {entry.unique_id for entry in again.left_out} == producer.selected
    assert "unchanged since one of 20" in again.left_out[0].message


@pytest.mark.parametrize("build", [dbt_build(select="orders"), dbt_build(exclude="orders")])
def test_a_run_of_a_part_keeps_no_state(nightly, build):
    producer = nightly(build)
    Attempted(producer).ends()
    assert producer._earlier_state(Attempted(producer).ti) is None


def test_a_run_that_fails_keeps_its_artifacts_and_no_state(nightly, tmp_path):
    producer = nightly(None)
    Attempted(producer).ends(1)
    assert (tmp_path / "shop/one/1/run_results.json").exists()
    assert producer._earlier_state(Attempted(producer).ti) is None


def container_of(producer, ti):
    container = k8s.V1Container(name="base")
    request = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))
    producer._command(request, producer.build, producer.selection, ti)
    return container


def test_what_is_deferred_reaches_the_container_by_variables(nightly, project):
    producer = nightly(dbt_build(select="state:modified+", defer=True))
    first = Attempted(producer)
    assert "--defer" not in container_of(producer, first.ti).args
    first.ends(manifest=(project / "target/manifest.json").read_bytes())
    container = container_of(producer, first.ti)
    assert "--defer" in container.args
    assert "DBT_WATCH_STATE_0" in {item.name for item in container.env}
