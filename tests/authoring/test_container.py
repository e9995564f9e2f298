"""How dbt is called in the container, and what is passed on to the operator."""

import pytest

from dbt_watch import dbt_build
from dbt_watch.authoring.container import dbt_words
from dbt_watch.core.command import Selection, dbt_arguments
from dbt_watch.exceptions import ArgumentError


@pytest.fixture
def producer(dag, decorate):
    def producer(**overrides):
        decorate(group_id="build", **overrides)(lambda: dbt_build(threads=2))()
        return dag.task_dict["build.dbt_build"]

    return producer


def arguments(producer):
    return dbt_arguments(producer.build, Selection())


def test_dbt_is_the_command_and_its_options_are_the_arguments(producer):
    made = producer()
    assert made.cmds == ["dbt"]
    assert arguments(made)[0] == "--log-format"


def test_words_may_come_before_dbt(producer):
    assert producer(cmds=["uv", "run", "dbt"]).cmds == ["uv", "run", "dbt"]


def test_an_entrypoint_that_is_kept_gets_the_call_of_dbt_as_arguments(producer):
    made = producer(keep_entrypoint=True, cmds=["uv", "run", "dbt"])
    assert not made.cmds
    assert arguments(made)[:4] == ["uv", "run", "dbt", "--log-format"]


def test_an_entrypoint_that_is_dbt_itself(producer):
    made = producer(cmds=[])
    assert not made.cmds
    assert arguments(made)[0] == "--log-format"


def test_packages_are_installed_before_in_the_same_container(producer):
    made = producer(deps=True, project_dir="/usr/app/my shop")
    shell, flag, script, name = made.cmds
    assert (shell, flag, name) == ("/bin/sh", "-c", "dbt")
    assert script.startswith("dbt --log-format json ")
    assert script.endswith(" deps --project-dir '/usr/app/my shop' || exit\nexec dbt \"$@\"")
    assert arguments(made)[0] == "--log-format"


def test_an_entrypoint_comes_before_the_packages(producer):
    made = producer(deps=True, keep_entrypoint=True)
    assert not made.cmds
    assert arguments(made)[:2] == ["/bin/sh", "-c"]


@pytest.mark.parametrize("cmds", [["python", "run.py"], ["/bin/sh", "-c", "echo done"]])
def test_a_command_without_dbt_is_refused_with_the_reason(producer, cmds):
    with pytest.raises(ArgumentError, match="arguments are appended to it"):
        producer(cmds=cmds)


@pytest.mark.parametrize("cmds", [["dbt", "--quiet"], ["uv", "run", "dbt", "--log-level", "info"]])
def test_a_command_that_changes_the_log_of_dbt_is_refused(producer, cmds):
    with pytest.raises(ArgumentError, match=r"cmds=.* expected options without --"):
        producer(cmds=cmds)


def test_what_calls_dbt_may_be_quiet(producer):
    assert producer(cmds=["uv", "run", "--quiet", "dbt"]).cmds == ["uv", "run", "--quiet", "dbt"]


@pytest.mark.parametrize("cmds", ["dbt", [1], {"dbt"}])
def test_a_command_that_is_no_list_of_words(cmds):
    with pytest.raises(ArgumentError, match="cmds="):
        dbt_words(cmds)


def test_an_entrypoint_that_is_dbt_itself_cannot_be_called_twice(producer):
    with pytest.raises(ArgumentError, match="deps=True: expected cmds with the command that runs dbt"):
        producer(deps=True, cmds=[])
