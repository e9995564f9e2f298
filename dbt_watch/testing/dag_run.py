"""What has become of a run of a DAG: `DagRun`, whose assertions say what there was when they fail. `plugin` returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.core.labels import label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbt_watch.core.results import NodeResult
    from dbt_watch.local.localkube import PodFact
    from dbt_watch.testing.commands import PlayedCommand


class DagRun:
    """
    A run of a DAG that is over.

    `run["orders"]` is the task of a node, or any other one. A task is named by its id, or by the end of that: `orders` for
    `build.orders`.

    :ivar dag_id: of the DAG
    :ivar state: "success" or "failed"
    :ivar states: the state of each task, by its id; of a mapped one with its index, as `task[0]`
    :ivar pods: those that were created, in order
    :ivar commands: those that a `FakeDbt` was given, in order
    :ivar nodes: what dbt reported of each node, by its unique_id
    """

    def __init__(
        self,
        dag_id: str,
        state: str,
        states: Mapping[str, str | None],
        *,
        nodes: Mapping[str, NodeResult],
        pods: Sequence[PodFact],
        commands: Sequence[PlayedCommand],
        log_of: Callable[[str], str],
    ) -> None:
        self.dag_id = dag_id
        self.state = state
        self.states = dict(states)
        self.nodes = dict(nodes)
        self.pods = list(pods)
        self.commands = list(commands)
        self._log_of = log_of

    def __repr__(self) -> str:
        return f"<DagRun of {self.dag_id}: {self.state}>"

    def __getitem__(self, name: str) -> TaskOfRun:
        """Return a task; :raises KeyError: when there is none of that name, or several."""
        return TaskOfRun(self, self._task_id(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._task_ids(name))

    def log(self, name: str) -> str:
        """Return the log of a task, of all its attempts."""
        return self._log_of(self._task_id(name))

    def with_state(self, state: str | None) -> set[str]:
        """Return the ids of the tasks in a state."""
        return {task_id for task_id, found in self.states.items() if found == state}

    def assert_success(self) -> None:
        """Check that the run has succeeded, and no task of it failed; :raises AssertionError: with those that did."""
        __tracebackhide__ = True
        failed = self.with_state("failed") | self.with_state("upstream_failed")
        if self.state != "success" or failed:
            raise AssertionError(f"the run is {self.state}\n{self._told(failed)}")

    def assert_states(self, expected: Mapping[str, str]) -> None:
        """
        Check the states of tasks; those that are not named may have any.

        :param expected: the state of each task, such as "success", "failed", "skipped" or "upstream_failed"
        :raises AssertionError: with each task that has another one, and why it failed
        """
        __tracebackhide__ = True
        wrong = []
        for name, state in expected.items():
            task_id = self._task_id(name)
            if self.states[task_id] != state:
                wrong.append(f"{name}: expected {state}, is {self[task_id].told}")
        if wrong:
            raise AssertionError("\n".join(wrong))

    def _task_id(self, name: str) -> str:
        found = self._task_ids(name)
        if len(found) == 1:
            return found[0]
        what = f"several tasks have this name: {', '.join(found)}" if found else "no task has this name"
        raise KeyError(f"{name}: {what}; the tasks are {', '.join(self.states)}")

    def _task_ids(self, name: str) -> list[str]:
        if name in self.states:
            return [name]
        return [task_id for task_id in self.states if task_id.endswith(f".{name}")]

    def _told(self, task_ids: set[str]) -> str:
        return "\n".join(f"{task_id}: {self[task_id].told}" for task_id in self.states if task_id in task_ids)


class TaskOfRun:
    """
    One task of a run.

    :ivar task_id: its id
    :ivar state: how it ended, as Airflow says
    """

    def __init__(self, run: DagRun, task_id: str) -> None:
        self._run = run
        self.task_id = task_id
        self.state = run.states[task_id]

    def __repr__(self) -> str:
        return f"<{self.task_id}: {self.told}>"

    @property
    def log(self) -> str:
        """Its log, of all its attempts."""
        return self._run.log(self.task_id)

    @property
    def result(self) -> NodeResult | None:
        """What dbt reported of the node; None where it is no task of a node, or nothing was reported."""
        name = self.task_id.rpartition(".")[2]
        found = [result for unique_id, result in self._run.nodes.items() if label_of(unique_id) == name]
        return found[0] if len(found) == 1 else None

    @property
    def told(self) -> str:
        """Its state, with dbt's text where it has one."""
        text = self.result.message if self.result is not None else None
        return f"{self.state}: {text}" if text else str(self.state)

    def assert_success(self) -> None:
        """Check that it succeeded; :raises AssertionError: with its state and dbt's text."""
        __tracebackhide__ = True
        self._assert_state("success")

    def assert_skipped(self) -> None:
        """Check that it was skipped; :raises AssertionError: with its state and dbt's text."""
        __tracebackhide__ = True
        self._assert_state("skipped")

    def assert_failed(self, text: str = "") -> None:
        """
        Check that it failed.

        :param text: a part of dbt's error, or of the task's log
        :raises AssertionError: with its state, and what it said instead
        """
        __tracebackhide__ = True
        self._assert_state("failed")
        if text not in self.told and text not in self.log:
            raise AssertionError(
                f"{self.task_id} failed without saying {text!r}: {self.told}\nThe end of its log:\n{self.log[-_SHOWN:]}"
            )

    def _assert_state(self, expected: str) -> None:
        __tracebackhide__ = True
        if self.state != expected:
            raise AssertionError(
                f"{self.task_id}: expected {expected}, is {self.told}\nThe end of its log:\n{self.log[-_SHOWN:]}"
            )


_SHOWN = 2_000
"""In characters, of a log."""
