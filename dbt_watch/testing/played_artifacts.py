"""The artifacts that a command of a `FakeDbt` leaves in dbt's target directory. Written for `player`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_watch.testing.log_lines import now, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dbt_watch.testing.call import Call
    from dbt_watch.testing.played_results import Result


def target_of(call: Call, *, has_project: bool) -> Path | None:
    """
    Return the target directory of a command; None where there is no project to have one.

    :param has_project: whether there is a project, whatever files there are
    """
    project = Path(call.value("--project-dir") or ".")
    if not has_project and not (project / "dbt_project.yml").exists():
        return None
    return project / (call.value("--target-path") or "target")


@dataclass(frozen=True)
class PlayedArtifacts:
    """
    The artifacts of one command.

    :param target: the directory; None where nothing is left
    :param invocation_id: dbt's id of the command
    :param began: when it began
    :param dbt_version: of the dbt that is played
    """

    target: Path | None
    invocation_id: str
    began: datetime
    dbt_version: str

    def leave_results(
        self, results: Sequence[Result], *, command: str, invocation: str, manifest: Path
    ) -> None:
        """
        Leave what became of the nodes of a build, and the manifest beside it.

        :param command: such as "build"
        :param invocation: the command with all its words
        :param manifest: the file that is copied
        """
        outcome = {
            "results": [result.artifact() for result in results],
            "elapsed_time": (now() - self.began).total_seconds(),
            "args": {"which": command, "invocation_command": invocation},
        }
        self._leave("run_results.json", "run-results/v6.json", outcome)
        if self.target is not None:
            shutil.copyfile(manifest, self.target / "manifest.json")

    def leave_sources(self, results: Sequence[Result]) -> None:
        """Leave how fresh the sources are."""
        self._leave("sources.json", "sources/v3.json", {"results": [result.source() for result in results]})

    def leave_catalog(self) -> None:
        """Leave a catalog without tables."""
        self._leave("catalog.json", "catalog/v1.json", {"nodes": {}, "sources": {}, "errors": None})

    def _leave(self, name: str, schema: str, content: Mapping[str, Any]) -> None:
        if self.target is None:
            return
        metadata = {
            "dbt_schema_version": f"https://schemas.getdbt.com/dbt/{schema}",
            "dbt_version": self.dbt_version,
            "generated_at": f"{written(now())}Z",
            "invocation_id": self.invocation_id,
            "invocation_started_at": f"{written(self.began)}Z",
            "env": {},
        }
        self.target.mkdir(parents=True, exist_ok=True)
        (self.target / name).write_text(json.dumps({"metadata": metadata, **content}), encoding="utf-8")
