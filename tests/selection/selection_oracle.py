"""
Asks the dbt of the interpreter that runs this file what it selects.

Usage: python selection_oracle.py PROJECT_DIRECTORY. Parses the project, prints the path of its manifest and dbt's version as one line of
JSON, then answers each line of JSON on stdin by one on stdout. It uses dbt's own selector classes: the same that `dbt ls` and
`dbt build` call, without what they do besides (a test compares the two).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

from dbt.cli.main import dbtRunner
from dbt.compilation import Linker
from dbt.config.selectors import SelectorDict, selector_config_from_data
from dbt.flags import set_from_args
from dbt.graph import Graph, ResourceTypeSelector, parse_difference
from dbt.task.build import BuildTask
from dbt.task.list import ListTask
from dbt.version import __version__
from dbt_common.events.contextvars import task_contextvars
from dbt_common.exceptions import DbtBaseException


class Oracle:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runner = dbtRunner()
        self.manifest = self.invoke("parse")
        self.graphs = {"ls": self.graph(with_test_edges=False), "build": self.graph(with_test_edges=True)}
        self.selectors = json.loads((directory / "selectors.yml").read_text())["selectors"]

    def invoke(self, *arguments: str):
        where = ["--project-dir", str(self.directory), "--profiles-dir", str(self.directory)]
        result = self.runner.invoke(["--quiet", "--log-level-file", "none", *arguments, *where])
        if result.exception is not None:
            raise result.exception
        return result.result

    def graph(self, *, with_test_edges: bool) -> Graph:
        linker = Linker()
        linker.link_graph(self.manifest)
        if with_test_edges:
            self.manifest.build_parent_and_child_maps()
            set_from_args(Namespace(USE_FAST_TEST_EDGES=True), None)
            linker.add_test_edges(self.manifest)
        return Graph(linker.graph)

    def answer(self, request: dict) -> dict:
        if "arguments" in request:
            lines = self.invoke("ls", "--output", "json", "--output-keys", "unique_id", *request["arguments"])
            return {"selected": sorted(json.loads(line)["unique_id"] for line in lines)}
        written = request.get("selectors") or self.selectors
        return {
            # as dbt writes them into the manifest
            "selectors": SelectorDict.parse_from_selectors_list(deepcopy(written)),
            "selected": sorted(self.select(request, written)),
        }

    def select(self, request: dict, written: list) -> set:
        set_from_args(Namespace(INDIRECT_SELECTION=request["indirect_selection"], WARN_ERROR=None), None)
        selectors = selector_config_from_data({"selectors": deepcopy(written)})
        task = BuildTask if request["command"] == "build" else ListTask
        default = ListTask.DEFAULT_RESOURCE_VALUES if task is ListTask else task.ALL_RESOURCE_VALUES
        types = set(request["resource_types"]) or set(default)
        options = (
            {"selectors": selectors}
            if "selectors" in ResourceTypeSelector.__init__.__code__.co_varnames
            else {}
        )
        selector = ResourceTypeSelector(
            graph=self.graphs[request["command"]],
            manifest=self.manifest,
            previous_state=None,
            resource_types=list(types - set(request["exclude_resource_types"])),
            include_empty_nodes=task is ListTask,
            **options,
        )
        with task_contextvars(project_root=str(self.directory)):
            return selector.get_selected(self.specification(request, selectors))

    def specification(self, request: dict, selectors: dict):
        if request["selector"] is not None:
            if request["selector"] not in selectors:
                raise DbtBaseException("no such selector")
            return selectors[request["selector"]]["definition"]
        default = [name for name, selector in selectors.items() if selector["default"]]
        if default and not (request["select"] or request["exclude"]):
            return selectors[default[0]]["definition"]
        return parse_difference(request["select"], request["exclude"])


def main() -> None:
    answers, sys.stdout = sys.stdout, io.StringIO()
    directory = Path(sys.argv[1])
    os.environ["DBT_TARGET_PATH"] = str(directory / "target")
    oracle = Oracle(directory)
    manifest = directory / "target" / "manifest.json"
    print(json.dumps({"manifest": str(manifest), "dbt_version": __version__}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = oracle.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001  (dbt has many kinds, and crashes on some values)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
