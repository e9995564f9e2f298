"""The plugin of pytest, in a session of its own each time; whole runs of DAGs are in `tests/e2e/test_dag_tests.py`."""

import subprocess
import sys

import pytest

CONFTEST = """
import pytest
from dbt_watch.testing import FakeDbt

@pytest.fixture(scope="session")
def dbt_watch_dags_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mine")
"""


def test_a_session_that_asks_for_nothing_loads_nothing(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "dbt_watch.testing.plugin" in sys.modules
            assert not {"msgspec", "airflow", "kubernetes", "aiohttp", "httpx"} & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


def test_the_plugin_is_there_without_being_named():
    # In a process of its own: here it is loaded already.
    script = "from importlib.metadata import entry_points as e; print(*[p.value for p in e(group='pytest11', name='dbt_watch')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.split() == ["dbt_watch.testing.plugin"]


def test_what_is_not_installed_is_named_with_its_extra():
    script = "import sys; sys.modules['trustme'] = None; from dbt_watch.testing import FakeDbt"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240
    )
    assert "pip install 'dbt-watch[testing]'" in done.stderr.splitlines()[-1]


def test_pods_of_any_namespace_run_on_the_kubernetes_of_the_session(pytester):
    pytester.makepyfile(
        """
        import httpx
        import time

        from dbt_watch.local.localkube import Image

        def test_it(dbt_watch_kube, tmp_path):
            (tmp_path / "bin").mkdir()
            program = tmp_path / "bin/hello"
            program.symlink_to("/bin/true")
            dbt_watch_kube.replace_images({"*": Image(directory=tmp_path)})
            container = {"name": "base", "image": "any/image:1", "command": ["/bin/true"]}
            pod = {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
            headers = {"Authorization": f"Bearer {dbt_watch_kube.token}"}
            with httpx.Client(base_url=dbt_watch_kube.url, verify=False, headers=headers, trust_env=False) as client:
                assert client.post("/api/v1/namespaces/mine/pods", json=pod).status_code == 201
            (fact,) = dbt_watch_kube.pods()
            assert (fact.namespace, fact.image) == ("mine", "any/image:1")

        def test_it_is_the_same_for_all_tests(dbt_watch_kube):
            assert len(dbt_watch_kube.pods()) == 1
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        ({}, "dags"),
        ({"pytest.ini": "[pytest]\ndbt_watch_dags_folder = pipelines/dags\n"}, "pipelines/dags"),
        ({"conftest.py": CONFTEST}, None),
    ],
    ids=["default", "setting", "fixture"],
)
def test_the_folder_of_the_dags_is_the_users_to_choose(pytester, files, folder):
    for name, text in files.items():
        (pytester.path / name).write_text(text)
    expected = f"pytestconfig.rootpath / {folder!r}" if folder else "dbt_watch_dags_folder"
    pytester.makepyfile(
        f"""
        def test_it(pytestconfig, dbt_watch_dags_folder):
            assert dbt_watch_dags_folder == {expected}
            assert ("mine" in dbt_watch_dags_folder.name) is {folder is None}
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_an_assertion_shows_what_there_was_and_not_its_own_inside(pytester):
    pytester.makepyfile(
        """
        from dbt_watch.testing import DagRun

        def test_it():
            states = {"build.orders": "failed"}
            run = DagRun("shop", "failed", states, nodes={}, pods=[], commands=[], log_of=lambda task_id: "")
            run.assert_states({"orders": "success"})
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: orders: expected success, is failed"])
    result.stdout.no_fnmatch_line("*dag_run.py*")
