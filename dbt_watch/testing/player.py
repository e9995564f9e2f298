"""
Plays a run of dbt in a pod: the nodes of the selection in dbt's order, its log, its artifacts, and its end.

`fake_dbt` makes this the program `dbt` of an image, beside whose script it takes notes: of its commands, and of how each node
ended. A later attempt, in another pod, reads from these how often a node has failed already.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.source_freshness import sources_selected
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.testing.answers import OtherCommand, answer_to
from dbt_watch.testing.batches import batches_of, say_end, say_start
from dbt_watch.testing.call import Call, call_of
from dbt_watch.testing.log_lines import LogWriter, described, dotted, node_info, now, schema_of, written
from dbt_watch.testing.node_run import NodeRun
from dbt_watch.testing.notes import NOTES, Notes
from dbt_watch.testing.played_artifacts import PlayedArtifacts, target_of
from dbt_watch.testing.played_results import (
    FAILED,
    NO_OPS,
    RESULT_EVENTS,
    Result,
    counts_of,
    result_data,
    result_of,
)
from dbt_watch.testing.run_order import run_order
from dbt_watch.testing.script import Act, Death, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from dbt_watch.core.manifest.graph import Graph, Node

SCRIPT: Final = "script.json"
MANIFEST: Final = "manifest.json"
LOG: Final = "recorded.jsonl"

_FRESHNESS: Final = "source freshness"
# The resource types of the commands that run nodes; None for all that a build has.
_RUNS: Final[dict[str, tuple[str, ...]]] = {
    "build": (),
    "run": ("model",),
    "seed": ("seed",),
    "snapshot": ("snapshot",),
    "test": ("test", "unit_test"),
}
_INVOCATION: Final = re.compile(r'("invocation_id": ?")[^"]*(")')


class ProcessEnded(Exception):
    """The process of dbt ends at once, and says nothing any more."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class CommandPlayer:
    """
    One command of dbt.

    :param directory: of the script, the manifest and the notes
    :param words: what follows `dbt`
    :param out: where the log goes
    :param sleep: waits for so many seconds
    """

    def __init__(
        self,
        directory: Path,
        words: Sequence[str],
        out: TextIO,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.call: Call = call_of(words)
        self._words = list(words)
        self._directory = directory
        self._sleep = sleep
        self._script = msgspec.json.decode((directory / SCRIPT).read_bytes(), type=Script)
        self._notes = Notes(directory / NOTES)
        self._id = str(uuid.uuid4())
        self._began = now()
        level = "debug" if self.call.has("--debug") else self.call.value("--log-level") or "info"
        self._log = LogWriter(out, self._id, as_json=self.call.value("--log-format") == "json", level=level)
        self._version = "1.11.16"

    def run(self) -> int:
        """Run it, and return the exit code of dbt."""
        self._notes.add(
            "begin",
            id=self._id,
            words=self._words,
            pod=os.environ.get("HOSTNAME", ""),
            at=self._began.timestamp(),
        )
        try:
            code = self._play()
        except DbtWatchError as error:
            code = self._crash(str(error), 2)
        except KeyboardInterrupt:
            self._log.event(
                "EndOfRunSummary",
                "info",
                "Exited because of keyboard interrupt",
                {"keyboard_interrupt": True, "num_errors": 0, "num_partial_success": 0, "num_warnings": 0},
            )
            code = self._crash("", 2)
        self._notes.add("exit", id=self._id, code=code)
        return code

    def _play(self) -> int:
        if self._script.recorded:
            return self._play_recorded()
        if missing := self._missing_project():
            return self._crash(missing, 2)
        graph = load_manifest(self._directory / MANIFEST)
        self._version = graph.facts.dbt_version
        self._log.event(
            "MainReportVersion",
            "info",
            f"Running with dbt={self._version}",
            {"log_version": 3, "version": f"={self._version}"},
        )
        for line in self._script.prints:
            self._log.text(line)
        crash = self._script.crash
        if crash is not None and self._is_due(crash.times, note="crash"):
            self._notes.add("crash", id=self._id)
            return self._crash(crash.message, crash.exit_code)
        adapter = graph.facts.adapter_type or "fake"
        self._log.event(
            "AdapterRegistered",
            "info",
            f"Registered adapter: {adapter}=1.0.0",
            {"adapter_name": adapter, "adapter_version": "=1.0.0"},
        )
        if self.call.command in _RUNS or self.call.command == _FRESHNESS:
            return self._run_nodes(graph)
        return self._run_other(graph)

    # What is run.

    def _run_other(self, graph: Graph) -> int:
        key, answer = answer_to(self.call, self._script.answers)
        self.wait(answer.seconds)
        if answer.error is not None:
            if self._is_due(answer.times, note="answered", command=key):
                self._notes.add("answered", id=self._id, command=key)
            else:
                answer = msgspec.structs.replace(answer, error=None)
        other = OtherCommand(self.call, self._log, graph, self._directory / MANIFEST, answer)
        if self.call.command == "docs generate" and answer.error is None:
            self._artifacts.leave_catalog()
        code = other.run((self._artifacts.target or Path("target")) / "catalog.json")
        return self._completed(ok=code == 0, code=code)

    def _run_nodes(self, graph: Graph) -> int:
        waits = run_order(graph, self._selected(graph), tests_block=self.call.command == "build")
        self._notes.add("selected", id=self._id, nodes=list(waits))
        counts: dict[str, int] = {}
        for node in graph.nodes.values():
            counts[node.resource_type] = counts.get(node.resource_type, 0) + 1
        found = ", ".join(f"{count} {kind}s" for kind, count in sorted(counts.items()))
        self._log.event("FoundStats", "info", f"Found {found}", {"stat_line": found})
        if not waits:
            self._log.event(
                "NothingToDo",
                "warn",
                "[WARNING]: Nothing to do. Try checking your model configs and model specification args",
                {},
            )
            return self._completed(ok=True)
        threads = int(self.call.value("--threads") or 4)
        target = self.call.value("--target") or "dev"
        self._log.event(
            "ConcurrencyLine",
            "info",
            f"Concurrency: {threads} threads (target='{target}')",
            {"num_threads": threads, "target_name": target, "node_count": len(waits)},
        )
        run = NodeRun(self, graph, waits, threads)
        try:
            run.run()
        finally:
            self._leave(list(run.results.values()))
        return self._conclude(list(run.results.values()))

    def _selected(self, graph: Graph) -> frozenset[str]:
        call = self.call
        select, exclude, selector = call.select or None, call.exclude or None, call.value("--selector")
        if call.command == _FRESHNESS:
            return sources_selected(graph, select=select, exclude=exclude, selector=selector)
        types = call.resource_types or _RUNS[call.command]
        return select_nodes(
            graph,
            select=select,
            exclude=exclude,
            selector=selector,
            resource_types=types,
            exclude_resource_types=call.exclude_resource_types,
            indirect_selection=call.value("--indirect-selection") or "eager",
        )

    def act(self, unique_id: str) -> Act:
        """Return what becomes of a node this time."""
        act = self._script.acts.get(unique_id, Act())
        if act.ending is not None and not self._is_due(
            act.times, note="ended", node=unique_id, as_scripted=True
        ):
            act = msgspec.structs.replace(act, ending=None, message=None)
        return act

    def result_of(self, graph: Graph, node: Node) -> Result:
        """Return how a node will end this time."""
        batches = batches_of(graph, node, self.call, self._began)
        return result_of(node, self.act(node.unique_id), batches)

    def _is_due(self, times: int | None, **values: Any) -> bool:
        return times is None or self._notes.count(**values) < times

    # What is said of a node.

    def begin(self, result: Result, index: int, total: int) -> None:
        """Log that a node begins."""
        node, began, thread = result.node, result.began, result.thread
        data: dict[str, Any] = {"node_info": node_info(node, "started", began=began)}
        self._log.event("NodeStart", "debug", f"Began running node {node.unique_id}", data, thread=thread)
        what = result.description
        self._log.event(
            "LogStartLine",
            "info",
            dotted(f"{index} of {total} START {what}", "RUN"),
            {"description": what, "index": index, "total": total, **data},
            thread=thread,
        )
        executing = {"node_info": node_info(node, "executing", began=began)}
        self._log.event(
            "NodeExecuting", "debug", f"Began executing node {node.unique_id}", executing, thread=thread
        )
        for line in self._script.acts.get(node.unique_id, Act()).prints:
            self._log.text(line)

    def begin_batch(self, result: Result, index: int) -> None:
        """Log that a batch of a node begins; `index` counts from 1."""
        result.batches[index - 1].began = written(now())
        say_start(self._log, result, index)

    def end_batch(self, result: Result, index: int) -> None:
        """Log how a batch of a node ended."""
        batch = result.batches[index - 1]
        batch.over = written(now())
        if batch.status != "skipped":
            batch.seconds = self.act(result.node.unique_id).seconds / len(result.batches)
        say_end(self._log, result, index)

    def skip(self, result: Result, index: int, total: int) -> None:
        """Log that a node is skipped."""
        node = result.node
        data = {
            "index": index,
            "total": total,
            "node_name": node.name,
            "resource_type": node.resource_type,
            "schema": schema_of(node),
            "node_info": node_info(node, "skipped", began=result.began),
        }
        message = dotted(f"{index} of {total} SKIP {described(node)}", "SKIP")
        self._log.event("SkippingDetails", "info", message, data, thread=result.thread)
        self._finish(result)

    def end(self, result: Result, index: int, total: int) -> None:
        """Log how a node ended."""
        node, status, thread = result.node, result.status, result.thread
        info = node_info(node, status, began=result.began, over=result.over)
        common = {"index": index, "execution_time": result.seconds, "node_info": info}
        if node.resource_type in NO_OPS:
            message = dotted(f"{index} of {total} NO-OP {described(node)}", "NO-OP")
            data = {"description": described(node), "status": "no-op", "total": total, **common}
            self._log.event("LogNodeNoOpResult", "info", message, data, thread=thread)
            self._finish(result)
            return
        if status == "error" and node.resource_type != "source" and not result.batches:
            self._log.event(
                "CatchableExceptionOnRun",
                "debug",
                result.message,
                {
                    "exc": result.message,
                    "exc_info": "",
                    "node_info": node_info(node, "executing", began=result.began),
                },
                thread=thread,
            )
        level = {"error": "error", "fail": "error", "warn": "warn"}.get(status, "info")
        word = status.upper() if status in {"error", "fail", "warn", "pass"} else "OK"
        if status == "partial success":
            word = "PARTIALLY"
        message = dotted(
            f"{index} of {total} {word} {result.description}", f"{word} in {result.seconds:.2f}s"
        )
        self._log.event(
            RESULT_EVENTS[node.resource_type],
            level,
            message,
            result_data(result, total) | common,
            thread=thread,
        )
        self._finish(result)
        if status in FAILED:
            self._log.event(
                "MarkSkippedChildren",
                "debug",
                f"Marking all children of '{node.unique_id}' to be skipped because of status '{status}'.",
                {"unique_id": node.unique_id, "status": status, "run_result": result.run_result()},
            )

    def _finish(self, result: Result) -> None:
        node = result.node
        data = {
            "node_info": node_info(node, result.status, began=result.began, over=result.over),
            "run_result": result.run_result(),
        }
        message = f"Finished running node {node.unique_id}"
        self._log.event("NodeFinished", "debug", message, data, thread=result.thread)
        # What was scripted to fail and was skipped instead has not had its turn.
        scripted = result.status in FAILED | {"warn"}
        self._notes.add("ended", id=self._id, node=node.unique_id, status=result.status, as_scripted=scripted)

    # How it ends.

    def wait(self, seconds: float) -> None:
        """Wait until something is over."""
        if seconds > 0:
            self._sleep(seconds)

    def die(self, unique_id: str, when: str) -> None:
        """End the pod, if that is what happens now; :raises ProcessEnded: then, unless it goes on in silence."""
        death: Death | None = self._script.acts.get(unique_id, Act()).death
        if death is None or death.when != when or not self._is_due(death.times, note="death", node=unique_id):
            return
        self._notes.add("death", id=self._id, node=unique_id)
        if death.how == "memory":
            from dbt_watch.testing.memory import kill_for_memory  # noqa: PLC0415 - hardly any pod needs it

            kill_for_memory(self._directory)
        while death.how == "silence":
            self._sleep(3600.0)
        raise ProcessEnded(death.exit_code)

    def _conclude(self, results: Sequence[Result]) -> int:
        failed = [result for result in results if result.status in {"error", "fail"}]
        partly = [result for result in results if result.status == "partial success"]
        warned = [result for result in results if result.status == "warn"]
        count = len(results)
        self._log.event(
            "FinishedRunningStats",
            "info",
            f"Finished running {count} nodes in 0 hours 0 minutes and {self._elapsed():.2f} seconds.",
            {"execution": "", "execution_time": self._elapsed(), "stat_line": f"{count} nodes"},
        )
        counted = f"{len(failed)} errors, {len(partly)} partial successes, and {len(warned)} warnings"
        self._log.event(
            "EndOfRunSummary",
            "info",
            f"Completed with {counted}:" if failed or partly or warned else "Completed successfully",
            {
                "keyboard_interrupt": False,
                "num_errors": len(failed),
                "num_partial_success": len(partly),
                "num_warnings": len(warned),
            },
        )
        for result in warned:
            self._tell(result, "RunResultWarning", "RunResultWarningMessage", "warn")
        for result in failed:
            self._tell(result, "RunResultFailure", "RunResultError", "error")
        if self.call.command == _FRESHNESS:
            self._log.event("FreshnessCheckComplete", "info", "Done.", {})
        else:
            counts = counts_of(results)
            told = " ".join(f"{name.upper()}={number}" for name, number in counts.items())
            self._log.event("StatsLine", "info", f"Done. {told}", {"stats": counts})
        return self._completed(ok=not failed and not partly)

    def _tell(self, result: Result, heading: str, text: str, level: str) -> None:
        node, info = result.node, node_info(result.node, "None")
        where = f"{node.resource_type} {node.name} ({node.path})"
        data = {
            "node_info": info,
            "node_name": node.name,
            "path": node.path,
            "resource_type": node.resource_type,
        }
        word = "Failure" if level == "error" else "Warning"
        self._log.event(heading, level, f"{word} in {where}", data)
        self._log.event(text, level, f"  {result.message}", {"msg": result.message, "node_info": info})

    def _crash(self, message: str, code: int) -> int:
        self._log.event(
            "MainEncounteredError", "error", f"Encountered an error:\n{message}", {"exc": message}
        )
        return self._completed(ok=False, code=code)

    def _completed(self, *, ok: bool, code: int = 1) -> int:
        command, moment = f"dbt {self.call.command}", now()
        how = "succeeded" if ok else "failed"
        self._log.event(
            "CommandCompleted",
            "debug",
            f"Command `{command}` {how} at {moment:%H:%M:%S.%f} after {self._elapsed():.2f} seconds",
            {
                "command": command,
                "completed_at": f"{written(moment)}Z",
                "elapsed": self._elapsed(),
                "success": ok,
            },
        )
        return 0 if ok else code

    def _elapsed(self) -> float:
        return (now() - self._began).total_seconds()

    # What it leaves.

    def _missing_project(self) -> str:
        asked = self.call.value("--project-dir")
        if self._script.project_dir is None or asked is None or Path(asked).is_dir():
            return ""
        return f"Invalid value for '--project-dir': Path '{asked}' does not exist."

    @property
    def _artifacts(self) -> PlayedArtifacts:
        target = target_of(self.call, has_project=self._script.project_dir is not None)
        return PlayedArtifacts(target, self._id, self._began, self._version)

    def _leave(self, results: Sequence[Result]) -> None:
        command = self.call.command
        if command == _FRESHNESS:
            self._artifacts.leave_sources(results)
            return
        invocation, manifest = f"dbt {' '.join(self._words)}", self._directory / MANIFEST
        self._artifacts.leave_results(results, command=command, invocation=invocation, manifest=manifest)

    def _play_recorded(self) -> int:
        """Play a log as it is, under an invocation of its own."""
        text = (self._directory / LOG).read_text(encoding="utf-8")
        self._log.raw(_INVOCATION.sub(rf"\g<1>{self._id}\g<2>", text))
        return self._script.exit_code


def main(directory: str) -> None:
    """Be the program `dbt`, with the script in a directory."""
    # A shell's background job ignores it, and the first process of a container what it has no handler for.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    try:
        code = CommandPlayer(Path(directory), sys.argv[1:], sys.stdout).run()
    except ProcessEnded as end:
        code = end.exit_code
    sys.stdout.flush()
    os._exit(code)
