"""
A plan as a tree for people, in at most 100 columns. `planning.command` prints it.

What all pods have in common stands at the top. Long lists are cut, with the number of what is left out, unless all is asked for.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final

from rich.text import Text
from rich.tree import Tree

from dbt_watch.core.command import GLOBAL_FLAGS, SERVER_FLAGS
from dbt_watch.core.labels import label_of
from dbt_watch.core.text import printable
from dbt_watch.rendering.plan import TEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dbt_watch.rendering.project_plan import PlannedPod, ProjectPlan, TaskAround

COLUMNS: Final = 100
_PODS: Final = 20
_TASKS_AROUND: Final = 20
# What is left of a line within the tree.
_CHARS: Final = COLUMNS - 12
_KINDS: Final = {"producer": "producer", "isolated": "isolated node"}


def tree_of(plan: ProjectPlan, *, everything: bool = False) -> Tree:
    """
    Return a plan as a tree.

    :param plan: the plan
    :param everything: whether to show all pods, all names and whole commands
    """
    return _Drawer(plan, everything=everything).tree()


class _Drawer:
    def __init__(self, plan: ProjectPlan, *, everything: bool) -> None:
        self.plan = plan
        self.everything = everything
        facts = [dict(_facts(pod)) for pod in plan.pods]
        self.common = {
            name: value
            for name, value in facts[0].items()
            if all(other.get(name) == value for other in facts)
        }

    def tree(self) -> Tree:
        plan = self.plan
        where = ".".join(filter(None, [plan.dag_id, plan.group_id]))
        nodes, pods = _count(plan.node_count, "node"), _count(len(plan.pods), plan.runs_in)
        mapped = ", once for each of some values" if plan.is_mapped else ""
        root = Tree(self._line(f"{where}: {plan.project}, {nodes} in {pods}{mapped}", "bold"))
        if self.common:
            self._add_facts(root.add(self._line(f"in all {plan.runs_in}s", "bold")), self.common)
        limit = len(plan.pods) if self.everything else _PODS
        for number, pod in enumerate(plan.pods[:limit], 1):
            self._add_pod(root, number, pod)
        if (left := len(plan.pods) - limit) > 0:
            root.add(self._line(f"and {left} more {plan.runs_in}s; --all shows them", "dim"))
        if plan.around:
            self._add_around(root, plan.around)
        return root

    def _add_pod(self, root: Tree, number: int, pod: PlannedPod) -> None:
        size = f", {_count(len(pod.nodes), 'node')}" if len(pod.nodes) != 1 else ""
        branch = root.add(self._line(f"{number}. {pod.task_id}: {_KINDS[pod.kind]}{size}", "bold"))
        if pod.why:
            self._add(branch, "why", pod.why, cut=False)
        if pod.waits_for:
            self._add(branch, "waits for", self._names(task.task_id for task in pod.waits_for))
        self._add(branch, "nodes", self._nodes(pod.nodes))
        if pod.tasks:
            self._add(branch, "tasks", self._names(task.task_id for task in pod.tasks))
        self._add(branch, "runs", self._command(pod), cut=False)
        own = {name: value for name, value in _facts(pod) if name not in self.common}
        self._add_facts(branch, own)

    def _add_facts(self, branch: Tree, facts: dict[str, str]) -> None:
        for name, value in facts.items():
            self._add(branch, name, value)

    def _add_around(self, root: Tree, around: Sequence[TaskAround]) -> None:
        branch = root.add(self._line("other tasks", "bold"))
        limit = len(around) if self.everything else _TASKS_AROUND
        for task in around[:limit]:
            kind = "function" if task.is_function else "task"
            words = [
                f"{word} {self._names(map(label_of, nodes), _CHARS // 3)}"
                for word, nodes in (("after", task.after), ("before", task.before))
                if nodes
            ]
            branch.add(self._line(f"{task.task_id}: {kind}, {', '.join(words)}"))
        if (left := len(around) - limit) > 0:
            branch.add(self._line(f"and {left} more", "dim"))

    def _nodes(self, unique_ids: Sequence[str]) -> str:
        """Name the nodes of a pod, of the tests just how many."""
        is_test = {unique_id: unique_id.partition(".")[0] in TEST_TYPES for unique_id in unique_ids}
        others = [label_of(unique_id) for unique_id in unique_ids if not is_test[unique_id]]
        count = sum(is_test.values())
        if self.everything or not others:
            return self._names(map(label_of, unique_ids)) or "none is left"
        tests = f", {_count(count, 'test')}" if count else ""
        return f"{self._names(others, _CHARS - 10 - len(tests))}{tests}"

    def _names(self, names: Iterable[str], limit: int = _CHARS - 10) -> str:
        """Return names as a list, cut where it becomes too long."""
        given = list(names)
        taken: list[str] = []
        room = limit
        for number, name in enumerate(given):
            left = len(given) - number - 1
            needed = len(name) + (2 if taken else 0)
            if not self.everything and needed + (len(_more(left)) if left else 0) > room:
                # One name at least, which the line itself cuts.
                taken += [] if taken else [name]
                break
            taken.append(name)
            room -= needed
        return ", ".join(taken) + (_more(len(given) - len(taken)) if len(given) > len(taken) else "")

    def _command(self, pod: PlannedPod) -> str:
        if not pod.command:
            return "nothing: dbt_build(select=..., exclude=...) leaves none of its nodes"
        if self.everything:
            words = [word if word.split() == [word] else json.dumps(word) for word in pod.command]
        else:
            words = _with_short_lists(_without_log_flags(list(pod.command)))
            words = ["(script)" if "\n" in word else word for word in words]
        return " ".join([*(["ENTRYPOINT"] if pod.keeps_entrypoint else []), *words])

    def _add(self, branch: Tree, name: str, value: str, *, cut: bool = True) -> None:
        text = self._line(f"{name}: {value}", cut=cut)
        text.stylize("cyan", 0, len(name) + 1)
        branch.add(text)

    def _line(self, text: str, style: str = "", *, cut: bool = True) -> Text:
        is_cut = cut and not self.everything
        return Text(
            printable(text, len(text)),
            style=style,
            no_wrap=is_cut,
            overflow="ellipsis" if is_cut else "fold",
        )


def _facts(pod: PlannedPod) -> Iterator[tuple[str, str]]:
    """Yield what is set for a pod, each with its name."""
    if pod.image is not None:
        yield "image", pod.image
    if pod.resources:
        amounts = (
            f"{kind} {', '.join(f'{name} {amount}' for name, amount in given.items())}"
            for kind, given in pod.resources.items()
            if isinstance(given, dict)
        )
        yield "resources", "; ".join(amounts)
    if pod.pool != "default_pool":
        yield "pool", pod.pool
    if pod.env_vars:
        yield "environment", ", ".join(pod.env_vars)
    if pod.vars:
        yield "vars", ", ".join(pod.vars)
    for name, value in pod.narrowed_by.items():
        yield f"narrowed by {name}", value
    for name, value in pod.settings.items():
        yield name, value if isinstance(value, str) else json.dumps(value)
    if pod.hidden_settings:
        yield "and, not shown", ", ".join(pod.hidden_settings)


def _without_log_flags(words: list[str]) -> list[str]:
    """Return a command without the options by which dbt logs for us, which are the same everywhere."""
    found: list[str] = []
    for word in words:
        found.append(word)
        for flags in (list(GLOBAL_FLAGS), list(SERVER_FLAGS)):
            if found[-len(flags) :] == flags:
                found[-len(flags) :] = ["..."]
    return found


def _with_short_lists(words: list[str]) -> list[str]:
    """Return a command in which a long list of criteria is a number."""
    found: list[str] = []
    for option, values in itertools.groupby(words, key=_OptionsBefore()):
        given = list(values)
        is_long = option in _LISTS and sum(map(len, given[1:])) > _CRITERIA_CHARS
        found += [option, f"({_count(len(given) - 1, 'criterion', 'criteria')})"] if is_long else given
    return found


class _OptionsBefore:
    """Tells of each word of a command the option that it belongs to."""

    def __init__(self) -> None:
        self.option = ""

    def __call__(self, word: str) -> str:
        if word.startswith("--"):
            self.option = word
        return self.option


_LISTS: Final = frozenset({"--select", "--exclude"})
_CRITERIA_CHARS: Final = 30


def _more(count: int) -> str:
    return f" and {count} more"


def _count(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or f'{one}s'}"
