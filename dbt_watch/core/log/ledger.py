"""
The ledger: what is known of every node, made from dbt's events alone.

A pure state machine. An event may be applied twice, or a part of the log again, and nothing changes; a node
that is over stays in its state within one dbt command. When a log holds several commands (source freshness, then a
build), the later one that finishes a node has the last word on it, by the time of the events. `core.log.stream` applies the
events; `producers.build_watch` and `dbt-watch replay` read the entries.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.log import entries
from dbt_watch.core.log.artifacts import read_artifact
from dbt_watch.core.log.end_of_run import DbtRun, failed_start_hooks, settled
from dbt_watch.core.log.event_roles import MEANS, Role
from dbt_watch.core.log.events import EventNode, RunResult, event_inside
from dbt_watch.core.log.node_state import Slot
from dbt_watch.core.log.queries import Queries
from dbt_watch.core.log.skip_causes import SkipCauses
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.results import MAX_BATCHES, Batch, NodeResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbt_watch.core.log.artifacts import Artifact
    from dbt_watch.core.log.end_of_run import End
    from dbt_watch.core.log.events import Data, DbtEvent
    from dbt_watch.core.results import SelectedNode

MAX_NODES: Final = 200_000
"""How many nodes a log may name; more than any project has, so that a foreign log cannot fill the memory."""

MAX_FOREIGN: Final = 10_000
"""How many of them may be outside of a selection that is known: hooks, for instance."""

Changes = list[NodeResult]


class Ledger:
    """
    Collects what dbt reports of each node.

    :param nodes: the selected nodes by unique_id; may be empty when the selection is not known. Nodes that dbt
        reports without being among them (hooks, for instance) are taken in too
    :param attempt: which attempt of the producer this is, from 1
    :param stale: what becomes of the nodes that read from a stale source
    :ivar run: what the log says of the dbt commands as a whole
    :ivar queries: the last query of each node that runs
    :ivar has_conclusion: whether dbt's own results were there at the end
    """

    def __init__(
        self,
        nodes: Mapping[str, SelectedNode] | None = None,
        *,
        attempt: int = 1,
        stale: StaleSources | None = None,
    ) -> None:
        self._nodes: Mapping[str, SelectedNode] = nodes if nodes is not None else {}
        self._attempt = attempt
        self._stale = stale or StaleSources()
        self.queries = Queries()
        self._slots: dict[str, Slot] = {}
        self._entries: dict[str, NodeResult] = {}
        self._causes = SkipCauses(self._nodes, self._entries)
        self.run = DbtRun()
        self._foreign = 0
        self._closed = False
        self.has_conclusion = False
        self._handlers = self._handlers_by_event()

    @property
    def entries(self) -> Mapping[str, NodeResult]:
        """The entry of each node that is known; a view that follows the ledger."""
        return MappingProxyType(self._entries)

    def apply(self, event: DbtEvent) -> Changes:
        """
        Apply one event.

        :returns: the nodes whose entry changed, with their new entries
        """
        handler = self._handlers.get(event.info.name)
        return handler(event) if handler is not None else []

    def close(
        self,
        exit_code: int | None,
        run_results: bytes | None = None,
        *,
        reason: str | None = None,
        no_log: str = "",
    ) -> Changes:
        """
        End the log: afterwards no node is open, and nothing changes any more.

        :param exit_code: dbt's; None when it is not known, as after a lost pod
        :param run_results: the run_results.json or sources.json of this run, if it could be had; one that belongs to
            another dbt command is not believed
        :param reason: why dbt ended, where that is known from outside ("OOMKilled")
        :param no_log: why there is no log, where none could be had; then `run_results` is believed without one
        :returns: the nodes whose entry changed; nothing the second time
        """
        if self._closed:
            return []
        self._closed = True
        self._handlers = {}
        changed: dict[str, NodeResult] = {}
        self.run.no_log = no_log
        end = self.run.ended(exit_code, reason, self._slots.values(), self._entries)
        artifact = read_artifact(run_results)
        stands_for_log = bool(no_log) and not self.run.commands
        if artifact is not None and (stands_for_log or artifact.invocation_id in self.run.commands):
            self.has_conclusion = True
            # Of a run that did not end well it is not certain that all of its nodes are in there.
            early = end.early or (stands_for_log and exit_code != 0)
            end = msgspec.structs.replace(end, lacks="", check_lacks="", early=early)
            for result in self._conclude(artifact):
                changed[result.unique_id] = result
        unseen = [unique_id for unique_id in self._nodes if unique_id not in self._slots]
        unfinished = [
            unique_id for unique_id, slot in self._slots.items() if not slot.over and not slot.shows_final
        ]
        for unique_id in (*unfinished, *unseen):
            for result in self._settle(unique_id, end):
                changed[result.unique_id] = result
        self._settle_causes(changed)
        for result in self._stale.held_back(self._entries):
            changed[result.unique_id] = self._entries[result.unique_id] = result
        return list(changed.values())

    # The end of the log.

    def _conclude(self, artifact: Artifact) -> Changes:
        """Apply what dbt itself concluded: it adds to nodes that are over, and decides about those that are not."""
        trusted = not any(
            (entry := self._entries.get(concluded.unique_id)) is not None
            and entry.is_success
            and statuses.meaning(concluded.status) is statuses.Meaning.FAILURE
            for concluded in artifact.results
        )  # with --fail-fast, Fusion writes "error" for every node, even for those that it built
        changes: Changes = []
        for concluded in artifact.results:
            slot = self._slots.get(concluded.unique_id)
            if slot is None:
                slot = self._slots[concluded.unique_id] = Slot(concluded.unique_id, artifact.invocation_id)
            if slot.invocation != artifact.invocation_id:
                continue
            result = slot.result
            if result is not None and slot.over:
                if result.status == concluded.status:
                    changes += self._complete(slot, concluded.run_result, entries.more_in(concluded))
            elif trusted and statuses.is_final(concluded.status):
                slot.over = True
                changes += self._put(
                    slot, entries.concluded(concluded, slot, self._nodes.get(slot.unique_id), self._attempt)
                )
        return changes

    def _settle(self, unique_id: str, end: End) -> Changes:
        """Settle a node that is still open."""
        slot = self._slots.get(unique_id)
        if slot is None:
            slot = self._slots[unique_id] = Slot(unique_id, "")
        slot.over = True
        return self._put(slot, settled(slot, self._nodes.get(unique_id), end, self._attempt))

    def _settle_causes(self, changed: dict[str, NodeResult]) -> None:
        """Name the causes of all skips again, now that every failure is known."""
        settled_causes = self._causes.settled()
        hooks = failed_start_hooks(self._entries) if settled_causes else ()
        for unique_id, causes in settled_causes.items():
            entry = self._entries[unique_id]
            wanted = causes or hooks
            if wanted != entry.skipped_because:
                entry = msgspec.structs.replace(entry, skipped_because=wanted)
                changed[unique_id] = self._entries[unique_id] = entry

    def _handlers_by_event(self) -> dict[str, Callable[[DbtEvent], Changes]]:
        by_role: dict[Role, Callable[[DbtEvent], Changes]] = {
            Role.START: self._on_start,
            Role.RESULT: self._on_result,
            Role.NO_OP: self._on_no_op,
            Role.SKIPPED: self._on_skipped,
            Role.FINISHED: self._on_finished,
            Role.MARKED: self._on_marked,
            Role.BATCH_START: self._on_batch,
            Role.BATCH_RESULT: self._on_batch,
            Role.ERROR_TEXT: self._on_error_text,
            Role.MESSAGE: self._on_message,
            Role.EPHEMERAL_FAILED: self._on_ephemeral_failed,
            Role.END_OF_RUN: self._on_end_of_run,
            Role.CANCEL: self._on_cancel,
            Role.COMMAND: self._on_command,
            Role.CRASH: self._on_command,
            Role.SUMMARY: self._on_command,
            Role.NOTHING: self._on_command,
            Role.NOTE: self._on_note,
        }
        return {name: by_role[role] for name, role in MEANS.items()}

    # Finding the slot of an event.

    def _slot(self, event: DbtEvent, unique_id: str) -> Slot | None:
        """Return the slot that an event writes to; None when the event belongs to an earlier dbt command."""
        info = event.info
        slot = self._slots.get(unique_id)
        if slot is None:
            if not unique_id or not self._has_room(unique_id) or not self.run.admit(info.invocation_id):
                return None
            slot = self._slots[unique_id] = Slot(unique_id, info.invocation_id, info.ts)
        elif slot.invocation != info.invocation_id:
            if info.ts <= slot.latest or not self.run.admit(info.invocation_id):
                return None
            slot.begin(info.invocation_id)
        if not slot.is_counted and event.data.total is not None:
            self._count(slot, event.data.total)
        if info.ts > slot.latest:  # noqa: PLR1730 - this is called for each line; `max` takes three times as long
            slot.latest = info.ts
        return slot

    def _count(self, slot: Slot, total: int) -> None:
        """Record dbt's own count of its nodes; hooks are counted apart."""
        if not slot.is_hook:
            slot.is_counted = True
            self.run.commands[slot.invocation].count = total

    def _has_room(self, unique_id: str) -> bool:
        """Return whether there is room for one more node."""
        if self._nodes and unique_id not in self._nodes:
            if self._foreign >= MAX_FOREIGN:
                return False
            self._foreign += 1
        return len(self._slots) < MAX_NODES

    # What the events do, one method for each role.

    def _on_start(self, event: DbtEvent) -> Changes:
        data = event.data
        node = data.node_info
        slot = self._slot(event, node.unique_id) if node is not None else None
        if slot is None or node is None or slot.over:
            return []
        if not slot.began:
            slot.began = node.node_started_at
        shown = slot.result
        if shown is not None and (shown.invocation_id == slot.invocation or shown.is_final):
            return []
        result = slot.result = entries.started(event, node, slot, self._attempt)
        self._entries[slot.unique_id] = result
        # dbt also starts nodes that it is about to skip; such a start is not reported.
        run = self.run
        is_kept_back = run.any_failed and self._causes.keep_back(slot.unique_id, tests=run.test_failed)
        return [] if is_kept_back else [result]

    def _on_result(self, event: DbtEvent) -> Changes:
        node = event.data.node_info
        if node is None:
            return []
        slot, status, info = self._slots.get(node.unique_id), node.node_status, event.info
        if (
            slot is None
            or slot.over
            or slot.batches
            or slot.invocation != info.invocation_id
            or info.ts < slot.latest
            or status not in _PLAIN
        ):
            return self._end(event, node, statuses.final_word(status, event.data.status))
        # The short form of `_end` for a node that went well: half of a long log takes this way.
        if not slot.is_counted and event.data.total is not None:
            self._count(slot, event.data.total)
        slot.over, slot.latest, slot.began = True, info.ts, node.node_started_at
        result = slot.result = entries.ended(event, node, slot, status, self._attempt)
        self._entries[slot.unique_id] = result
        return [result]

    def _on_no_op(self, event: DbtEvent) -> Changes:
        node = event.data.node_info
        if node is None:
            return []
        word = statuses.final_word(node.node_status, event.data.status)
        return self._end(event, node, word or statuses.NO_OP)

    def _on_skipped(self, event: DbtEvent) -> Changes:
        node = event.data.node_info
        return self._end(event, node, statuses.SKIPPED) if node is not None else []

    def _on_finished(self, event: DbtEvent) -> Changes:
        node, result = event.data.node_info, event.data.run_result
        slot = self._slots.get(node.unique_id) if node is not None else None
        if node is None or result is None:
            return []
        if slot is None or slot.invocation != event.info.invocation_id:
            # Without its start, the end of an incremental model looks like that of one of its batches.
            began = None if node.materialized == "incremental" else node.node_started_at
        else:
            began = slot.began
        if not node.node_started_at or node.node_started_at != began:
            return []
        if slot is not None and slot.over and slot.invocation == event.info.invocation_id:
            return self._complete(slot, result)
        return self._end(event, node, result.status or node.node_status, result)

    def _on_marked(self, event: DbtEvent) -> Changes:
        result = event.data.run_result
        slot = self._slot(event, event.data.unique_id or "")
        if slot is None or result is None:
            return []
        if slot.over:
            return self._complete(slot, result)
        self._hint(slot, result.status or event.data.status or "", result.message)
        return []

    def _on_batch(self, event: DbtEvent) -> Changes:
        data, node = event.data, event.data.node_info
        slot = self._slot(event, node.unique_id) if node is not None else None
        if slot is None or node is None or slot.over:
            return []
        slot.batch_count = data.total_batches if data.total_batches is not None else slot.batch_count
        if slot.began == node.node_started_at:
            slot.began = ""  # the start that was seen was not the model's own
        index = data.batch_index
        if slot.batches is None:
            slot.batches = {}
        if data.status is not None and index is not None and len(slot.batches) < MAX_BATCHES:
            word = statuses.final_word(node.node_status, data.status)
            slot.batches.setdefault(index, Batch(index, word or data.status, data.execution_time))
        return []

    def _on_error_text(self, event: DbtEvent) -> Changes:
        slot = self._slot(event, event.unique_id)
        if slot is None:
            return []
        text = entries.message_of(event.data.exc or event.info.msg)
        if slot.over:
            return self._complete(slot, RunResult(message=text))
        slot.text = slot.text or text
        return []

    def _on_message(self, event: DbtEvent) -> Changes:
        if event.info.level != "error":
            return []
        return self._on_error_text(event) if event.unique_id else self._on_command(event)

    def _on_ephemeral_failed(self, event: DbtEvent) -> Changes:
        # The event has only the name of the node; when several have it, the end of the log decides.
        named = [key for key, node in self._nodes.items() if node.name == event.data.relation]
        for unique_id in named:
            slot = self._slot(event, unique_id)
            if slot is None or slot.over:
                continue
            if len(named) == 1:
                info = self._nodes[unique_id]
                node = EventNode(unique_id=unique_id, node_name=info.name, resource_type=info.resource_type)
                return self._end(event, node, statuses.SKIPPED)
            self._hint(slot, statuses.SKIPPED, None)
        return []

    def _on_end_of_run(self, event: DbtEvent) -> Changes:
        node = event.data.node_info
        slot = self._slot(event, node.unique_id) if node is not None else None
        if slot is None or node is None:
            return []
        text = entries.message_of(event.data.msg)
        if text == _NEVER_BEGUN:
            return []
        if slot.over:
            return self._complete(slot, RunResult(message=text))
        self._hint(slot, "warn" if "Warning" in event.info.name else entries.failure_word(node, text), text)
        return []

    def _on_cancel(self, event: DbtEvent) -> Changes:
        slot = self._slots.get(event.data.conn_name or "")
        if slot is not None and slot.invocation == event.info.invocation_id:
            slot.cancelled = True
        return []

    def _on_command(self, event: DbtEvent) -> Changes:
        self.run.take(event)
        return []

    def _on_note(self, event: DbtEvent) -> Changes:
        inside = event_inside(event)
        return self.apply(inside) if inside is not None and inside.info.name != "Note" else []

    # Changing an entry.

    def _put(self, slot: Slot, result: NodeResult) -> Changes:
        slot.result = result
        self._entries[slot.unique_id] = result
        return [result]

    def _end(self, event: DbtEvent, node: EventNode, status: str, found: RunResult | None = None) -> Changes:
        """Enter the end of a node; where it is over already, fill in what was missing."""
        slot = self._slot(event, node.unique_id)
        if slot is None or not status:
            return []
        if slot.over:
            return self._complete(slot, found or _result_in(event.data))
        shown = slot.result
        if status in statuses.FINAL:
            slot.over = True
        elif statuses.is_known(status) or slot.shows_final:
            return []
        elif (
            shown is not None
            and shown.invocation_id == slot.invocation
            and not statuses.is_known(shown.status)
        ):
            return self._complete(slot, found) if found is not None else []
        if found is None:
            slot.began = node.node_started_at  # the event is the node's own, never a batch's
        result = entries.ended(event, node, slot, status, self._attempt)
        if found is not None:
            result = entries.with_run_result(result, found)
        if status not in _PLAIN or slot.batches:
            result = self._with_circumstances(result, slot, found)
        return self._put(slot, result)

    def _with_circumstances(self, result: NodeResult, slot: Slot, found: RunResult | None) -> NodeResult:
        """Return an entry with what other events have told: the error, the cause of a skip, the batches."""
        more: dict[str, Any] = {}
        if result.is_failure:
            self.run.any_failed = True
            self.run.test_failed |= result.resource_type in entries.TESTS
            more["sql"] = self.queries.last_of(result.unique_id)
        if result.is_skipped:
            more["skipped_because"] = self._causes.of(result.unique_id, tests=self.run.test_failed)
        if slot.batches:
            more["batches"] = tuple(slot.batches[index] for index in sorted(slot.batches))
            more["batch_count"] = slot.batch_count
        if entries.has_text(result.status):
            text = slot.text or (entries.message_of(found.message) if found is not None else None)
            more["message"] = text or entries.usual_text(result)
        return msgspec.structs.replace(result, **more)

    def _complete(self, slot: Slot, found: RunResult, more: dict[str, Any] | None = None) -> Changes:
        result = entries.completed(slot.result, found, more) if slot.result is not None else None
        return self._put(slot, result) if result is not None else []

    def _hint(self, slot: Slot, status: str, text: str | None) -> None:
        if statuses.is_final(status):
            known = slot.hint[1] if slot.hint is not None else None
            slot.hint = (status, known or entries.message_of(text))


_PLAIN: Final = frozenset({"success", "pass", "no-op", "reused"})
# With --fail-fast, dbt-core writes this as an error of nodes that it did not begin (`dbt/task/runnable.py`).
_NEVER_BEGUN: Final = "Skipping due to fail_fast"


def _result_in(data: Data) -> RunResult:
    return RunResult(num_failures=data.num_failures, execution_time=data.execution_time)
