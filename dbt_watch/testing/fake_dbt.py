"""
A dbt that follows a script: `FakeDbt`, written by tests, which stands for an image on localkube.

    dbt = FakeDbt("dbt/shop/target/manifest.json").fails("orders", "relation does not exist").takes("customers", 0.5)

In a pod it is the program `dbt`, played by `player`.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import Image, Mount
from dbt_watch.testing.answers import check_command
from dbt_watch.testing.batches import check_batches
from dbt_watch.testing.commands import PlayedCommand, commands_in
from dbt_watch.testing.memory import CLUSTER, Cluster
from dbt_watch.testing.notes import NOTES
from dbt_watch.testing.player import LOG, MANIFEST, SCRIPT
from dbt_watch.testing.run_order import TESTS
from dbt_watch.testing.script import Act, Crash, Death, How, Script, ScriptedAnswer

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from typing_extensions import Self

    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.local.localkube import LocalKube

_PROGRAM: Final = """#!{python} -IS
import sys

sys.path[:0] = {path!r}
from dbt_watch.testing.player import main

main({directory!r})
"""
_ALL_WENT_WELL: Final = (b'"num_errors": 0', b'"num_errors":0', b'"success": true', b'"success":true')


@dataclass(frozen=True)
class _Played:
    """What is played: a script for the nodes of a project, or a log that was recorded."""

    script: Script
    manifest: Path | None = None
    graph: Graph | None = None
    log: bytes | None = None


class FakeDbt:
    """
    A dbt that follows a script.

    It takes dbt's command line, selects by dbt's rules, runs the nodes in dbt's order, and writes dbt's log and artifacts. A node
    that the script does not name succeeds at once. Each method returns another `FakeDbt` and changes nothing. Nodes are named as
    in dbt: by name, `package.name`, `name.v2`, `source.table` or unique_id.

    :param manifest: the project's manifest.json, the same that the DAG reads
    :raises ManifestError: when it cannot be read
    """

    def __init__(self, manifest: str | os.PathLike[str]) -> None:
        self._become(_Played(Script(), manifest=Path(manifest), graph=load_manifest(manifest)))

    @classmethod
    def recorded(cls, log: str | os.PathLike[str], *, exit_code: int | None = None) -> Self:
        """
        Return a dbt that writes a log that was recorded, as fast as it can, whatever it is asked for.

        :param log: what `dbt --log-format json` wrote
        :param exit_code: of dbt; by default 0 when the log says that all went well, or else 1
        """
        content = Path(log).read_bytes()
        if exit_code is None:
            last = content.rstrip().split(b"\n")[-20:]
            exit_code = 0 if any(word in line for line in last for word in _ALL_WENT_WELL) else 1
        made = cls.__new__(cls)
        made._become(_Played(Script(recorded=True, exit_code=exit_code), log=content))  # noqa: SLF001 - its own
        return made

    def _become(self, played: _Played) -> None:
        self._played = played
        self._place: Path | None = None

    # The script.

    def fails(
        self,
        node: str,
        message: str | None = None,
        *,
        times: int | None = None,
        batches: Sequence[str] | None = None,
    ) -> Self:
        """
        Have a node fail: a model with an error, a test with a failure, a source by being stale.

        :param message: dbt's text of it
        :param times: in how many of its runs, retries included; it succeeds afterwards. None for each
        :param batches: of a microbatch model, those that fail, such as "2026-01-31" for a day; the others are built, unless the
            first one fails. Runs without these batches go well
        :raises ArgumentError: when it is no microbatch model, or has no batches of such names
        """
        failing = None
        if batches is not None:
            failing = check_batches(self._graph(node), self._node(node), batches)
        return self._with(node, ending="error", message=message, times=times, batches=failing)

    def warns(self, node: str, message: str | None = None, *, times: int | None = None) -> Self:
        """
        Have a test or the freshness of a source end with a warning.

        :param message: dbt's text of it
        :param times: in how many of its runs; None for each
        :raises ArgumentError: when it is another kind of node, of which dbt does not warn
        """
        found = self._node(node)
        if found.resource_type not in {*TESTS, "source"}:
            raise ArgumentError(
                "node", node, f"a test or a source; dbt never warns about a {found.resource_type}"
            )
        return self._with(node, ending="warn", message=message, times=times)

    def takes(self, node: str, seconds: float) -> Self:
        """Have a node take so long."""
        return self._with(node, seconds=seconds)

    def affects(self, node: str, rows: int) -> Self:
        """Have the database report a number of rows for a node."""
        return self._with(node, rows=rows)

    def prints(self, *lines: str, during: str | None = None) -> Self:
        """
        Print lines that are no records of dbt, as `print` in a Python model does.

        :param during: while this node runs; before the first one where it is left out
        """
        if during is not None:
            known = self._played.script.acts.get(self._node(during).unique_id, Act())
            return self._with(during, prints=(*known.prints, *lines))
        return self._scripted(prints=(*self._played.script.prints, *lines))

    def crashes(self, message: str, *, exit_code: int = 2, times: int | None = None) -> Self:
        """
        End before the first node, as dbt does when it cannot parse the project or connect.

        :param message: dbt's text of it
        :param times: how many commands end so; None for each
        """
        return self._scripted(crash=Crash(message, exit_code, times))

    def answers(
        self,
        command: str,
        *lines: str,
        error: str | None = None,
        seconds: float = 0.0,
        times: int | None = None,
    ) -> Self:
        """
        Have a command that runs no nodes say something, or fail; without this it goes well, and says what dbt does.

        :param command: such as "docs generate"; "run-operation grant" for a macro, "run-operation" for any
        :param lines: what a macro says by `log(..., info=True)`; of `show`, the rows that it shows
        :param error: dbt's text of what went wrong
        :param seconds: how long it takes
        :param times: how many of these commands fail; None for each
        :raises ArgumentError: when it is no such command, or the project has no such macro
        """
        manifest = self._played.manifest
        if manifest is None:
            raise ArgumentError("command", command, "to be left out: a recorded log is replayed as it is")
        if times is not None and error is None:
            raise ArgumentError("times", times, "an `error` beside it: what is to happen so often")
        key = check_command(command, manifest)
        answer = ScriptedAnswer(lines, error, seconds, times)
        return self._scripted(answers={**self._played.script.answers, key: answer})

    def exits(
        self,
        *,
        during: str | None = None,
        after: str | None = None,
        exit_code: int = 137,
        times: int | None = None,
    ) -> Self:
        """
        End the process at once, without another word.

        :param during: while this node runs
        :param after: or when this one has ended
        :param exit_code: of the process; 137 is that of one that was killed
        :param times: in how many runs; None for each
        """
        return self._dies("exit", during, after, exit_code, times)

    def runs_out_of_memory(
        self, *, during: str | None = None, after: str | None = None, times: int | None = None
    ) -> Self:
        """Have the pod killed for its memory, with the reason OOMKilled; see `exits`."""
        return self._dies("memory", during, after, 137, times)

    def falls_silent(
        self, *, during: str | None = None, after: str | None = None, times: int | None = None
    ) -> Self:
        """Have the pod go on for ever and say nothing; see `exits`."""
        return self._dies("silence", during, after, 137, times)

    # Its place.

    def image(self, *, project_dir: str | None = None) -> Image:
        """
        Return the image that has this as its `dbt`.

        :param project_dir: where the project is in the image, for `artifacts` and the like, which look for files there; dbt
            fails when it is called for another directory
        """
        directory = self._directory()
        script = msgspec.structs.replace(self._played.script, project_dir=project_dir)
        (directory / SCRIPT).write_bytes(msgspec.json.encode(script))
        mounts: dict[str, str | os.PathLike[str] | Mount] = {str(directory): Mount(directory, shared=True)}
        if project_dir is not None:
            project = directory.parent / "project"
            project.mkdir(exist_ok=True)
            (project / "dbt_project.yml").write_text("name: fake\n", encoding="utf-8")
            mounts[project_dir] = project
        return Image(venv=directory.parent, mounts=mounts, workdir=project_dir or "/")

    def runs_on(self, kube: LocalKube) -> None:
        """Tell where its pods run, which those that run out of memory have to know."""
        cluster = Cluster(kube.url, kube.token, kube.authority)
        (self._directory() / CLUSTER).write_bytes(msgspec.json.encode(cluster))

    @property
    def commands(self) -> list[PlayedCommand]:
        """The commands that it was given so far, oldest first."""
        return commands_in(self._directory() / NOTES)

    def _directory(self) -> Path:
        """Return the directory of the script and the notes, beside that of the program."""
        if self._place is None:
            place = Path(tempfile.mkdtemp(prefix="dbt-watch-fake-")).resolve()
            # Not with this object, which nobody may keep: an image does not refer to it.
            atexit.register(shutil.rmtree, place, ignore_errors=True)
            directory = place / "played"
            directory.mkdir()
            (place / "bin").mkdir()
            python = place / "bin/python"
            python.symlink_to(Path(sys.executable).resolve())
            path = [entry for entry in map(str, map(Path.absolute, map(Path, sys.path))) if entry]
            own = str(Path(__file__).parents[2])
            text = _PROGRAM.format(python=python, path=[own, *path], directory=str(directory))
            (place / "bin/dbt").write_text(text, encoding="utf-8")
            (place / "bin/dbt").chmod(0o755)
            if self._played.manifest is not None:
                shutil.copyfile(self._played.manifest, directory / MANIFEST)
            if self._played.log is not None:
                (directory / LOG).write_bytes(self._played.log)
            self._place = place
        return self._place / "played"

    # Making another one.

    def _dies(
        self, how: How, during: str | None, after: str | None, exit_code: int, times: int | None
    ) -> Self:
        if during is not None and after is None:
            return self._with(during, death=Death(how, "during", exit_code, times))
        if after is not None and during is None:
            return self._with(after, death=Death(how, "after", exit_code, times))
        raise ArgumentError("during", during, "either `during` or `after` as the name of a node")

    def _with(self, name: str, **changes: Any) -> Self:
        unique_id = self._node(name).unique_id
        act = msgspec.structs.replace(self._played.script.acts.get(unique_id, Act()), **changes)
        return self._scripted(acts={**self._played.script.acts, unique_id: act})

    def _scripted(self, **changes: Any) -> Self:
        made = copy.copy(self)
        script = msgspec.structs.replace(self._played.script, **changes)
        made._become(dataclasses.replace(self._played, script=script))  # noqa: SLF001 - its own
        return made

    def _graph(self, name: str) -> Graph:
        if self._played.graph is None:
            raise ArgumentError("node", name, "to be left out: a recorded log is replayed as it is")
        return self._played.graph

    def _node(self, name: str) -> Node:
        graph = self._graph(name)
        found = graph.find(name)
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(node.unique_id for node in found)
            raise ArgumentError("node", name, f"a single node of the project, but these have the name: {ids}")
        known = [node.name for node in graph.nodes.values()]
        raise ArgumentError("node", name, "a node of the project", known=known)
