"""
Where what belongs to an invocation is, in the directory of the server's state.

The name of its directory is made from a hash, so no task_id leads out of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

ARTIFACTS: Final = (
    "run_results.json",
    "manifest.json",
    "catalog.json",
    "sources.json",
    "semantic_manifest.json",
)
"""What is kept of what dbt writes."""


@dataclass(frozen=True)
class InvocationFiles:
    """The files of one invocation."""

    directory: Path

    @property
    def log(self) -> Path:
        """What dbt wrote to its standard output and error."""
        return self.directory / "log.jsonl"

    def artifact(self, name: str) -> Path:
        """Return where an artifact is; one that is not among `ARTIFACTS` is nowhere."""
        if name not in ARTIFACTS:
            raise KeyError(name)
        return self.directory / name

    def artifacts(self) -> dict[str, int]:
        """Return the artifacts that there are, with their sizes in bytes."""
        paths = {name: self.artifact(name) for name in ARTIFACTS}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


def files_of(state_dir: Path, task_id: str) -> InvocationFiles:
    """Return the files of an invocation."""
    digest = hashlib.sha256(task_id.encode()).hexdigest()
    return InvocationFiles(state_dir / "invocations" / digest[:2] / digest[2:34])
