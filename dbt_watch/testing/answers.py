"""
The commands of a `FakeDbt` that build nothing: a macro that is run, the docs, a list, a preview.

`player` plays them, and `fake_dbt` checks what is scripted of them. What they write is that of dbt-core 1.11, at the levels at which it is written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import ArgumentError
from dbt_watch.testing.call import GROUPS
from dbt_watch.testing.log_lines import node_info, now, written
from dbt_watch.testing.run_order import TESTS
from dbt_watch.testing.script import ScriptedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.testing.call import Call
    from dbt_watch.testing.log_lines import LogWriter

_OPERATION: Final = "run-operation"
_COMMANDS: Final = (
    "clone",
    "compile",
    "debug",
    "deps",
    "docs generate",
    "list",
    "ls",
    "parse",
    "retry",
    _OPERATION,
    "show",
)
_ALIASES: Final = {"list": "ls"}
_SQL: Final = "select 1"


class _Macro(msgspec.Struct):
    name: str = ""
    package_name: str = ""


class _Macros(msgspec.Struct):
    macros: dict[str, _Macro] = {}


def macros_in(manifest: Path) -> frozenset[str]:
    """Return the names of the macros of a project, with their package and without it."""
    found = msgspec.json.decode(manifest.read_bytes(), type=_Macros).macros.values()
    return frozenset(name for one in found for name in (one.name, f"{one.package_name}.{one.name}"))


def check_command(command: str, manifest: Path) -> str:
    """
    Return a command as the script has it.

    :param command: such as "docs generate" or "run-operation grant"
    :param manifest: that of the project, for its macros
    :raises ArgumentError: when it is no such command, or the project has no such macro
    """
    words = command.split()
    count = 2 if words and words[0] in GROUPS else 1
    name, rest = " ".join(words[:count]), words[count:]
    if name not in _COMMANDS:
        raise ArgumentError(
            "command",
            command,
            "a command of dbt that runs no nodes, such as docs generate or run-operation grant; nodes fail by `fails`",
            known=_COMMANDS,
            sought=name,
        )
    if len(rest) > (name == _OPERATION):
        raise ArgumentError("command", command, f"no more than {name}: it holds for any options")
    macros = macros_in(manifest) if rest else frozenset()
    if macros and rest[0] not in macros:
        raise ArgumentError("command", command, "a macro of the project", known=macros, sought=rest[0])
    return " ".join([_ALIASES.get(name, name), *rest])


def answer_to(call: Call, answers: Mapping[str, ScriptedAnswer]) -> tuple[str, ScriptedAnswer]:
    """Return what is scripted of a command, and under which name."""
    name = _ALIASES.get(call.command, call.command)
    keys = [name]
    if name == _OPERATION and call.arguments:
        macro = call.arguments[0]
        keys = [f"{name} {macro}", f"{name} {macro.rpartition('.')[2]}", name]
    key = next((key for key in keys if key in answers), keys[0])
    return key, answers.get(key, ScriptedAnswer())


class OtherCommand:
    """
    One command that runs no nodes.

    :param call: dbt's
    :param log: is written to
    :param graph: the project
    :param manifest: its file, for the macros
    :param answer: what is scripted
    """

    def __init__(
        self, call: Call, log: LogWriter, graph: Graph, manifest: Path, answer: ScriptedAnswer
    ) -> None:
        self._call = call
        self._log = log
        self._graph = graph
        self._manifest = manifest
        self._answer = answer

    def run(self, catalog: Path) -> int:
        """
        Write what it has to say, and return the exit code of dbt.

        :param catalog: the file of `docs generate`
        """
        command = self._call.command
        if command == _OPERATION and (problem := self._missing_macro()):
            self._say_error(
                "RunningOperationCaughtError", problem, "Encountered an error while running operation: "
            )
            self._say_error("MainEncounteredError", problem, "Encountered an error:\n")
            return 2
        for line in () if command == "show" else self._answer.lines:
            self._log.event("JinjaLogInfo", "info", line, {"msg": line})
        if self._answer.error is not None:
            return self._fail(self._answer.error)
        if command in _ALIASES or command in _ALIASES.values():
            self._list()
        elif command == "show":
            self._show()
        elif command in {"compile", "docs generate"}:
            self._compile()
        if command == "docs generate":
            self._log.event("BuildingCatalog", "info", "Building catalog", {})
            self._log.event("CatalogWritten", "info", f"Catalog written to {catalog}", {"path": str(catalog)})
        return 0

    def _fail(self, error: str) -> int:
        if self._call.command == _OPERATION:
            self._say_error(
                "RunningOperationCaughtError", error, "Encountered an error while running operation: "
            )
            return 1
        self._say_error("MainEncounteredError", error, "Encountered an error:\n")
        return 2

    def _say_error(self, event: str, text: str, words: str) -> None:
        self._log.event(event, "error", f"{words}{text}", {"exc": text})

    def _missing_macro(self) -> str:
        """Return dbt's text where the project has no such macro."""
        asked, known = self._call.arguments[:1], macros_in(self._manifest)
        if not known or (asked and asked[0] in known):
            return ""
        name = asked[0] if asked else ""
        return f'Runtime Error\n  dbt could not find a macro with the name "{name}" in any package'

    def _list(self) -> None:
        selected = self._selected(buildable_only=False)
        if not selected:
            self._log.event("NoNodesSelected", "warn", "No nodes selected!", {})
        form = _FORMS.get(self._call.value("--output") or "", _selector)
        for node in selected:
            line = form(node)
            self._log.event("PrintEvent", "info", line, {"msg": line})

    def _compile(self) -> None:
        selected = self._selected()
        self._work_through(selected)
        # Without a selection dbt says nothing of the single nodes.
        for node in selected if self._call.select else ():
            data = {"compiled": _SQL, **self._of_one(node)}
            self._log.event("CompiledNode", "info", f"Compiled node '{node.name}' is:\n{_SQL}", data)

    def _show(self) -> None:
        preview = "\n".join(self._answer.lines)
        if self._call.value("--inline"):
            data = {"preview": preview, **self._told(True, "inline_query", "sqloperation.inline_query")}
            self._log.event("ShowNode", "info", f"Previewing inline node:\n{preview}", data)
            return
        selected = [node for node in self._selected() if node.resource_type not in TESTS]
        self._work_through(selected)
        for node in selected:
            data = {"preview": preview, **self._of_one(node)}
            self._log.event("ShowNode", "info", f"Previewing node '{node.name}':\n{preview}", data)

    def _of_one(self, node: Node) -> dict[str, Any]:
        return self._told(False, node.name, node.unique_id)

    def _told(self, is_inline: bool, name: str, unique_id: str) -> dict[str, Any]:
        return {
            "is_inline": is_inline,
            "node_name": name,
            "output_format": self._call.value("--output") or "text",
            "quiet": False,
            "unique_id": unique_id,
        }

    def _work_through(self, nodes: Sequence[Node]) -> None:
        """Log of each node that it was compiled, as dbt does at debug; an ephemeral one is a part of others."""
        for node in nodes:
            if node.materialized == "ephemeral":
                continue
            began = written(now())
            data: dict[str, Any] = {"node_info": node_info(node, "started", began=began)}
            self._log.event("NodeStart", "debug", f"Began running node {node.unique_id}", data)
            over = written(now())
            result = {
                "adapter_response": {},
                "execution_time": 0.0,
                "message": "",
                "num_failures": 0,
                "status": "success",
                "thread": "Thread-1 (worker)",
                "timing_info": [],
            }
            data = {"node_info": node_info(node, "success", began=began, over=over), "run_result": result}
            self._log.event("NodeFinished", "debug", f"Finished running node {node.unique_id}", data)

    def _selected(self, *, buildable_only: bool = True) -> list[Node]:
        call = self._call
        found = select_nodes(
            self._graph,
            select=call.select or None,
            exclude=call.exclude or None,
            selector=call.value("--selector"),
            resource_types=call.resource_types,
            exclude_resource_types=call.exclude_resource_types,
            indirect_selection=call.value("--indirect-selection") or "eager",
            buildable_only=buildable_only,
        )
        return [self._graph.nodes[unique_id] for unique_id in sorted(found)]


def _selector(node: Node) -> str:
    """Return how `dbt ls` names a node: as a selection does."""
    if node.resource_type == "source":
        return f"source:{node.package_name}.{node.source_name}.{node.name}"
    if node.resource_type in _METHODS:
        return f"{node.resource_type}:{node.package_name}.{node.name}"
    return ".".join(node.fqn)


def _as_json(node: Node) -> str:
    record = {
        "name": node.name,
        "resource_type": node.resource_type,
        "package_name": node.package_name,
        "original_file_path": node.path,
        "unique_id": node.unique_id,
        "tags": list(node.tags),
        "depends_on": {"nodes": list(node.depends_on)},
    }
    return msgspec.json.encode(record).decode()


_METHODS: Final = frozenset({"exposure", "metric", "saved_query", "semantic_model", "unit_test"})
_FORMS: Final[dict[str, Callable[[Node], str]]] = {
    "json": _as_json,
    "name": lambda node: node.name,
    "path": lambda node: node.path,
}
