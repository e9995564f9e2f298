"""
Why a project takes the pods that it takes, in words; and in which order these can begin.

`rendering.project_planner` asks. The reasons are read off the parts that `rendering.split` has made: a later producer is behind a
pod or a task that is none of a producer's, which is itself behind the producer before it.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from dbt_watch.core.labels import label_of
from dbt_watch.rendering.plan import TEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dbt_watch.rendering.split import Barrier, PlannedPart


class PodOrder:
    """
    What comes before each pod of a project.

    :param parts: as they were made
    :param barriers: the tasks in the middle of the project
    :param part_of: returns the part of a task, by its id within the group
    :param part_of_node: returns that of a node
    :param tests_of_all: the part that runs the tests of all nodes, where one task stands for them
    """

    def __init__(
        self,
        parts: Sequence[PlannedPart],
        barriers: Iterable[Barrier],
        part_of: Callable[[str], PlannedPart],
        part_of_node: Callable[[str], PlannedPart],
        tests_of_all: PlannedPart | None = None,
    ) -> None:
        self._tests_of_all = tests_of_all
        self._parts = {part.task_id: part for part in parts}
        #: for each part and each barrier what comes before it, each with a node that is behind that
        self._before: dict[str, dict[str, str]] = {}
        for part in parts:
            behind: dict[str, list[str]] = {}
            for task_id, nodes in part.waits_for.items():
                behind.setdefault(part_of(task_id).task_id, []).extend(nodes)
            for task_id, nodes in part.barriers.items():
                behind.setdefault(_barrier(task_id), []).extend(nodes)
            self._before[part.task_id] = {key: min(nodes, key=_tests_last) for key, nodes in behind.items()}
        for barrier in barriers:
            self._before[_barrier(barrier.task_id)] = {
                part_of_node(node).task_id: "" for node in sorted(barrier.after)
            }

    def parts(self) -> list[PlannedPart]:
        """Return the parts in the order in which their pods can begin, producers first where that is the same."""
        depths: dict[str, int] = {}
        for key in TopologicalSorter(self._before).static_order():
            depths[key] = max((depths[other] + 1 for other in self._before[key]), default=0)
        return sorted(self._parts.values(), key=lambda part: depths[part.task_id])

    def why(self, part: PlannedPart, asked_by: Sequence[str]) -> str:
        """
        Return what makes the pod of a part necessary, as a sentence.

        :param part: the part
        :param asked_by: what asks for an isolated node's own pod
        """
        if part.home is not None:
            return f"{label_of(part.home)} has a pod of its own by {' and '.join(asked_by)}"
        if part is self._tests_of_all and part.waits_for:
            return "the tests of all nodes run when everything is built"
        chain = self._chain(part)
        if not chain:
            return ""
        node = label_of(self._before[part.task_id][chain[0]])
        return f"{node} is built behind {self._told(chain)}"

    def _chain(self, part: PlannedPart) -> list[str]:
        """Return what lies between a producer and the latest one before it, from the later one on, and that one itself."""
        found: list[str] = []
        latest = -1
        numbers = {task_id: number for number, task_id in enumerate(self._parts)}
        queue = [key for key in self._before[part.task_id] if not self._is_producer(key)]
        came_from = dict.fromkeys(queue, "")
        for key in queue:  # grows while it is read
            for other in self._before[key]:
                if self._is_producer(other):
                    if numbers[other] > latest:
                        latest = numbers[other]
                        found = [*_path(came_from, key), other]
                elif other not in came_from:
                    came_from[other] = key
                    queue.append(other)
        return found

    def _is_producer(self, key: str) -> bool:
        return key in self._parts and self._parts[key].home is None

    def _told(self, chain: Sequence[str]) -> str:
        """Name what is in a chain: each comes after the next."""
        *between, last = chain
        words = []
        for key in between:
            part = self._parts.get(key)
            if part is None:
                words.append(f"the task {key.removeprefix(_BARRIER)}, which waits for")
            else:
                words.append(f"{label_of(part.home or '')}, which has a pod of its own and is built behind")
        return " ".join([*words, last])


def _tests_last(unique_id: str) -> tuple[bool, str]:
    return unique_id.partition(".")[0] in TEST_TYPES, unique_id


def _path(came_from: Mapping[str, str], key: str) -> list[str]:
    path = []
    while key:
        path.append(key)
        key = came_from[key]
    return path[::-1]


def _barrier(task_id: str) -> str:
    return f"{_BARRIER}{task_id}"


# What stands for a task in the middle among the ids of tasks, which have no blanks.
_BARRIER = "task "
