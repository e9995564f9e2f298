"""
What a task that runs dbt keeps of a run, and what it takes from an earlier one: artifacts, and the state to compare with.

`producers.dbt_task` is made with it. The files themselves are read and written by `producers.artifact_store` and
`producers.state_store`.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.artifact_pages import ARTIFACTS_KEY
from dbt_watch.core.artifacts import LAST_SUCCESS
from dbt_watch.core.command import criteria
from dbt_watch.core.log.enclosed_files import SOURCES
from dbt_watch.core.selection.state import (
    check_sources,
    needs_sources,
    needs_state,
    takes_all_changes,
    takes_all_fresher,
)
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.artifact_store import ArtifactStore
from dbt_watch.producers.retry_state import Memory
from dbt_watch.producers.state_store import State, keep, nothing, stale_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from dbt_watch.core.artifacts import Artifacts
    from dbt_watch.core.command import Selection
    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.log.enclosed_files import EnclosedFiles
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.part import Part


class KeptFilesMixin:
    """Keeps artifacts and the state of a run, and compares with an earlier one; the attributes are those of `DbtTaskMixin`."""

    if TYPE_CHECKING:
        log: Any
        artifacts: Artifacts | None
        artifacts_told: dict[str, Any]
        build: Mapping[str, Any]
        graph: Graph
        manifest: str
        part: Part | None
        selection: Selection
        state: str | None

        def is_lone(self, task_instance: Any) -> bool:
            """Return whether the task that runs this is a sensor."""

    def _keep_files(self, context: Context, closed: Closed, files: EnclosedFiles) -> None:
        """
        Keep the artifacts and the state of a run in which dbt has ended.

        :param closed: how
        :param files: what the container has put into its log
        """
        self._keep_artifacts(context, files)
        self._keep_state(context, closed, files)

    def _keep_artifacts(self, context: Context, files: EnclosedFiles) -> None:
        """
        Write dbt's artifacts to their place, if they have one; no build fails for it.

        :param files: what the container has put into its log
        """
        if self.artifacts is None:
            return
        ti: Any = context["ti"]
        try:
            store = self._store(ti)
            files_kept = store.keep(files)
            if files_kept:
                places = store.places
                self.artifacts_told = {"place": places.attempt, "run": places.run, "files": files_kept}
                ti.xcom_push(key=ARTIFACTS_KEY, value=self.artifacts_told)
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            self.log.warning("No artifacts were kept: %s: %s", type(error).__name__, error)

    def _compared(self, task_instance: Any, build: Mapping[str, Any]) -> Graph:
        """
        Return the project, with what an earlier run knew of it where the options of a build ask.

        :raises ArgumentError: when they do, and no state is named
        """
        select, exclude = (criteria(name, build.get(name)) for name in ("select", "exclude"))
        words = [*select, *exclude]
        if not needs_state(words):
            return self.graph
        check_sources(select, exclude, are_checked=bool(self.selection.sources) and self.selection.builds)
        if needs_sources(words) and self.part is not None:
            raise ArgumentError("select", " ".join(words), "no `source_status:` in a project of several pods")
        if self.state is None:
            raise ArgumentError("select", " ".join(words), "state=... of @dbt_k8s_project, to compare with")
        found = self._earlier_state(task_instance)
        if found is None:
            self.log.warning("There is no state to compare with yet: everything is new")
        elif needs_sources(words) and not found.has(SOURCES):
            self.log.warning("The state holds no %s to compare with yet: all data is new", SOURCES)
        compared = nothing(self.manifest) if found is None else found.comparison(self.manifest)
        return self.graph.compared_with(compared)

    def _earlier_state(self, task_instance: Any) -> State | None:
        """Return the state that `state` names; None when there is none."""
        if self.state is None:
            return None
        place = self._store(task_instance).places.kept if self.state == LAST_SUCCESS else self.state
        return State.find(place)

    def _store(self, task_instance: Any) -> ArtifactStore:
        assert self.artifacts is not None  # noqa: S101 - a state of our own is refused without
        group_id, _, name = task_instance.task_id.rpartition(".")
        is_one_of_several = self.part is not None or self.is_lone(task_instance)
        label = name if is_one_of_several else ""
        return ArtifactStore(self.artifacts, task_instance, group_id=group_id, label=label)

    def _keep_state(self, context: Context, closed: Closed, files: EnclosedFiles) -> None:
        """
        Keep the state of a run that has ended well and has built all that had changed.

        :param closed: how dbt has ended
        :param files: what the container has put into its log
        """
        ti: Any = context["ti"]
        if self.state != LAST_SUCCESS or closed.exit_code != 0 or self.is_lone(ti):
            return
        if self.part is not None:
            self.log.warning("The state of this run was not kept: the project is split over several pods")
            return
        build = Memory(context).options_of_first_attempt(self.build) if ti.max_tries else self.build
        selection = [criteria(name, build.get(name)) for name in ("select", "exclude")]
        all_changes, all_fresher = takes_all_changes(*selection), takes_all_fresher(*selection)
        if not (all_changes or all_fresher):
            self.log.info("The state of this run was not kept: it may not have built everything that changed")
            return
        found = {file.name: file.content for file in files.found()[0]}
        if stale := stale_sources(found.get(SOURCES)):
            self.log.info(
                "The state of this run was not kept: nodes that read from stale sources were not built: %s",
                stale,
            )
            return
        try:
            keep(
                self._store(ti).places.kept,
                self.manifest,
                found,
                has_all_changes=all_changes,
                # A later attempt has checked the sources again, after some of the nodes were built.
                has_all_fresher=all_fresher and ti.try_number == 1,
                run_id=ti.run_id,
                attempt=ti.try_number,
                at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            self.log.warning("The state of this run was not kept: %s: %s", type(error).__name__, error)
