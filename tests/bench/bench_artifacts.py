"""
What it costs to bring dbt's files out by the log, and to compare a project with its last good run.

Usage: python tests/bench/bench_artifacts.py MANIFEST [--nodes N] [--json]. MANIFEST is the manifest.json of the example project. The larger one
is made of its nodes, again and again under other names. The shell's script is the real one, with a program in the place of dbt that only
copies files.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_watch.authoring.artifact_script import BEGINNING, sending
from dbt_watch.core.log.enclosed_files import EnclosedFiles
from dbt_watch.core.selection.state import StateComparison, decode_state, reduced
from dbt_watch.producers.state_store import State

if TYPE_CHECKING:
    from collections.abc import Callable

_SECTIONS = ("nodes", "unit_tests", "sources")
_MB = 1_000_000


def grown(manifest: dict[str, Any], count: int) -> dict[str, Any]:
    """Return a manifest with so many nodes, made of those of a smaller one, whose code has more lines in each."""
    originals = list(manifest["nodes"].items())
    nodes: dict[str, Any] = {}
    for number in range(count):
        unique_id, node = originals[number % len(originals)]
        kind, package, name = unique_id.split(".", 2)
        made = copy.deepcopy(node)
        made["unique_id"] = f"{kind}.{package}.a{number}_{name}"
        made["name"] = made["alias"] = f"a{number}_{made['name']}"
        lines = "\n".join(
            f"    , sum(case when kind = {number * 7 + line} then amount end) as a_{line}"
            for line in range(40)
        )
        made["raw_code"] = f"{made.get('raw_code') or ''}\n{lines}"
        made["compiled_code"] = made["raw_code"]
        nodes[made["unique_id"]] = made
    return {**manifest, "nodes": nodes}


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of an action, child processes included, and what came of it."""
    began = os.times()
    found = action()
    ended = os.times()
    return sum(ended[:4]) - sum(began[:4]), found


def figures(content: bytes) -> dict[str, Any]:
    """Return what one manifest costs on each side."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "target").mkdir()
        (root / "source.json").write_bytes(content)
        dbt = root / "dbt"
        dbt.write_text("#!/bin/sh\nsleep 0.01\ncp source.json target/manifest.json\n")
        dbt.chmod(0o755)
        alone, _ = timed(lambda: subprocess.run([str(dbt)], cwd=root, check=True))
        script = f"{BEGINNING}\n{sending([str(dbt)], ['manifest.json'], project_dir=str(root))}"
        seconds, ended = timed(
            lambda: subprocess.run(["/bin/sh", "-c", script], cwd=root, check=True, capture_output=True)
        )
        lines = ended.stdout.split(b"\n")
        files = EnclosedFiles()
        taken, _ = timed(lambda: files.sift(lines))
        read, found = timed(lambda: files.content("manifest.json"))
        assert found == content
        (root / "manifest.json").write_bytes(content)
        compare, changed = timed(
            lambda: StateComparison(
                decode_state(content, location=""), decode_state(content, location="")
            ).find("state", "modified", json.loads(content)["nodes"])
        )
        assert changed == []
        small, names = timed(lambda: reduced(content, location=""))
        variables = State(str(root), "").variables()
    return {
        "nodes": len(json.loads(content)["nodes"]),
        "megabytes": len(content) / _MB,
        "log megabytes": len(ended.stdout) / _MB,
        "lines": len(lines),
        "seconds in the pod": seconds - alone,
        "seconds to take them out": taken + read,
        "seconds to compare": compare,
        "seconds to reduce": small,
        "reduced megabytes": len(names) / _MB,
        "characters in variables": sum(map(len, variables.values())),
    }


def overhead_of_sifting(count: int = 500_000) -> float:
    """Return how many seconds a million lines cost that belong to no file."""
    lines = [b'{"data": {"msg": "hello"}, "info": {"name": "x"}}'] * 1_000
    files = EnclosedFiles()
    seconds, _ = timed(lambda: [files.sift(lines) for _ in range(count // 1_000)])
    return seconds * _MB / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[1])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--nodes", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    small = options.manifest.read_bytes()
    large = json.dumps(grown(json.loads(small), options.nodes)).encode()
    found = {
        "example": figures(small),
        "large": figures(large),
        "seconds for a million lines of no file": overhead_of_sifting(),
    }
    if options.json:
        json.dump(found, sys.stdout)
        return
    for name in found["large"]:
        print(f"{name:30} {found['example'][name]:>12.3f} {found['large'][name]:>12.3f}")
    print(f"a million lines of no file: {found['seconds for a million lines of no file']:.3f} s")


if __name__ == "__main__":
    main()
