"""The shell's script that sends files by the log, run by a real shell with something in the place of dbt."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from harness import until

from dbt_watch import Artifacts
from dbt_watch.authoring.container import container_command
from dbt_watch.authoring.settings import ProjectSettings
from dbt_watch.core.log.enclosed_files import EnclosedFiles

# Writes what dbt writes, and what it was called with.
DBT = r"""#!/bin/sh
for word; do printf '%s\n' "$word"; done > "$NOTES/$(ls "$NOTES" | wc -l)"
echo '{"info": {}}'
case " $* " in
*" docs generate "*)
    [ "${DOCS:-0}" -eq 0 ] || { echo "no such table"; exit "$DOCS"; }
    echo '{"nodes": {}}' > target/catalog.json
    echo '<html>' > target/index.html
    exit 0 ;;
*" freshness "*) echo '{"results": []}' > target/sources.json; exit 0 ;;
esac
[ -z "$WAITS" ] || { trap 'echo "{}" > target/run_results.json; exit 7' INT; echo building; sleep 30 > /dev/null 2>&1 & wait; }
[ -n "$NOTHING" ] || {
    cp "$RESULTS" "${OUT:-target}/run_results.json"
    mkdir -p target/compiled/shop/models
    echo 'select 1' > target/compiled/shop/models/orders.sql
}
exit "${CODE:-0}"
"""
PLACE = "s3://lake/{dag_id}/{run_id}/{attempt}"
EVERYTHING = Artifacts(PLACE, manifest=True, catalog=True, sources=True, compiled=True)
BUILD = ["build", "--vars", '{"a": "$(touch /tmp/x) `id`"}', "", "--select", "x"]
DOCS = ["docs", "generate", "--no-compile"]
CHECK = ["source", "freshness", "--select", "source:a.b.c"]


class Runner:
    def __init__(self, shell, directory):
        self.shell, self.directory = shell, directory
        self.notes, self.temporary, self.project = (directory / name for name in ("notes", "tmp", "shop"))
        self.target = self.project / "target"
        for path in (self.notes, self.temporary, self.project, self.target):
            path.mkdir()
        (self.project / "dbt_project.yml").write_text("name: shop\n")
        # What was in the image before dbt has run.
        for name in ("manifest.json", "run_results.json"):
            (self.target / name).write_text("old")
            os.utime(self.target / name, (1, 1))
        self.results = directory / "results.json"
        self.results.write_text(
            json.dumps({"results": [{"unique_id": f"model.shop.m{n}"} for n in range(3_000)]})
        )
        dbt = directory / "my dbt"
        dbt.write_text(DBT)
        dbt.chmod(0o755)
        self.dbt = str(dbt)
        self.seen = b""

    def start(self, arguments, artifacts=EVERYTHING, *, freshness="none", path=None, **environment):
        settings = ProjectSettings.of(manifest="m", artifacts=artifacts, freshness=freshness, cmds=[self.dbt])
        words = container_command(settings).cmds
        own = {
            "NOTES": str(self.notes), "RESULTS": str(self.results), "TMPDIR": str(self.temporary), **environment
        }  # fmt: skip
        return subprocess.Popen(
            [self.shell, *words[1:], *arguments],
            env={**os.environ, **own, **({"PATH": path} if path else {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=self.project,
        )  # fmt: skip

    def end(self, process):
        output, errors = process.communicate(timeout=240)
        assert errors == b""
        assert not list(self.temporary.iterdir())
        files = EnclosedFiles()
        files.sift(self.seen.split(b"\n"))
        rest = files.sift(output.split(b"\n"))
        found, missing = files.found()
        return process.returncode, {file.name: file.content for file in found}, missing, b"\n".join(rest)

    def __call__(self, arguments, *more, **settings):
        return self.end(self.start(arguments, *more, **settings))

    def calls(self):
        return [path.read_text().split("\n")[:-1] for path in sorted(self.notes.iterdir())]


SHELLS = ["/bin/sh", shutil.which("bash"), *(["busybox-sh"] if shutil.which("busybox") else [])]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.rpartition("/")[2])
def run(request, tmp_path):
    shell = request.param
    if shell == "busybox-sh":
        shell = str(tmp_path / "sh")
        Path(shell).symlink_to(shutil.which("busybox"))
    return Runner(shell, tmp_path)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_dbt_has_written_is_sent_and_its_exit_code_kept(run, code):
    ended, files, missing, rest = run(BUILD, Artifacts(PLACE), CODE=str(code))
    assert ended == code
    assert files == {"run_results.json": run.results.read_bytes()}
    assert missing == {}
    assert rest == b'{"info": {}}\n\n'
    assert run.calls() == [BUILD]


def test_all_that_was_asked_for_is_sent_and_nothing_that_was_there_before(run):
    _, files, missing, _ = run([f"docs:{len(DOCS)}", *DOCS, *BUILD])
    assert set(files) == {"run_results.json", "catalog.json", "index.html", "compiled.tar"}
    assert b"select 1" in files["compiled.tar"]
    assert missing == dict.fromkeys(("manifest.json", "sources.json"), "dbt has not written it")
    assert run.calls() == [BUILD, DOCS]


def test_a_catalog_that_cannot_be_made_is_told_and_changes_no_exit_code(run):
    code, files, missing, rest = run([f"docs:{len(DOCS)}", *DOCS, *BUILD], DOCS="2")
    assert code == 0
    assert missing["catalog.json"].startswith("`dbt docs generate` ended with 2: ")
    assert "no such table" in missing["catalog.json"]
    assert "run_results.json" in files
    assert b"no such table" not in rest


def test_no_catalog_is_made_when_dbt_has_crashed(run):
    code, _, missing, _ = run([f"docs:{len(DOCS)}", *DOCS, *BUILD], CODE="2", NOTHING="1")
    assert code == 2
    assert missing["run_results.json"] == "dbt has not written it"
    assert missing["catalog.json"] == "dbt ended with 2, so `dbt docs generate` was not called"
    assert run.calls() == [BUILD]


def test_sources_that_were_checked_before_are_sent_as_well(run):
    arguments = [str(len(CHECK)), *CHECK, f"docs:{len(DOCS)}", *DOCS, *BUILD]
    _, files, _, _ = run(arguments, freshness="before")
    assert {"sources.json", "run_results.json", "catalog.json"} <= set(files)
    assert run.calls() == [CHECK, BUILD, DOCS]


def test_a_file_that_is_too_large_is_told(run, monkeypatch):
    monkeypatch.setattr("dbt_watch.authoring.artifact_script.MAX_PACKED", 100)
    _, files, missing, _ = run(BUILD, Artifacts(PLACE))
    assert files == {}
    assert re.fullmatch(
        r"it is too large: \d+ bytes when compressed, and 100 may be sent", missing["run_results.json"]
    )


@pytest.mark.parametrize("where", ["flag", "flag with =", "variable", "project"])
def test_the_target_directory_is_found_wherever_it_is_named(run, where):
    other = run.project / "other"
    other.mkdir()
    arguments, environment = list(BUILD), {}
    if where == "flag":
        arguments += ["--target-path", "other"]
    elif where == "flag with =":
        arguments.append(f"--target-path={other}")
    elif where == "variable":
        environment["DBT_TARGET_PATH"] = "other"
    else:
        (run.project / "dbt_project.yml").write_text("name: shop\ntarget-path: 'other'  # not target\n")
    _, files, _, _ = run(arguments, Artifacts(PLACE), OUT=str(other), **environment)
    assert set(files) == {"run_results.json"}


def started(run, *, path=None, artifacts=EVERYTHING):
    process = run.start([f"docs:{len(DOCS)}", *DOCS, *BUILD], artifacts, WAITS="1", path=path)
    while not run.seen.endswith(b"building\n"):
        run.seen += process.stdout.readline()
    # The shell that has started dbt is a moment behind it.
    until(
        lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, "it does not wait", pause=0.01
    )
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_dbt_as_an_interrupt_and_what_it_has_written_is_sent(run, number):
    process = started(run)
    process.send_signal(number)
    code, files, missing, _ = run.end(process)
    assert code == 7
    assert files["run_results.json"] == b"{}\n"
    assert "dbt ended with 7" in missing["catalog.json"]
    assert run.calls() == [BUILD]


def tools_without(directory, *left_out):
    """Return a PATH with the programs that the script needs, but some."""
    tools = directory / "tools"
    tools.mkdir()
    for name in (
        "sh", "ls", "wc", "sleep", "cp", "mkdir", "rm", "mktemp", "gzip", "base64", "awk", "sed", "tail", "env", "tr",
        "find", "tar",
    ):  # fmt: skip
        if name not in left_out:
            (tools / name).symlink_to(shutil.which(name))
    return tools


def test_without_gnu_env_python_lets_dbt_be_interrupted(run):
    tools = tools_without(run.directory, "env")
    (tools / "python3").symlink_to(sys.executable)
    process = started(run, path=str(tools))
    process.send_signal(signal.SIGINT)
    code, files, _, _ = run.end(process)
    assert (code, set(files)) == (7, {"run_results.json"})


def test_without_either_dbt_takes_the_place_of_the_shell_and_nothing_is_sent(run):
    tools = tools_without(run.directory, "env")
    process = started(run, path=str(tools))
    process.send_signal(signal.SIGINT)
    code, files, missing, _ = run.end(process)
    assert (code, files) == (7, {})
    assert "neither an `env` that knows --default-signal nor Python" in missing["run_results.json"]
    assert run.calls() == [BUILD]


def test_the_exit_code_of_a_dbt_that_was_killed_is_that_of_the_container(run):
    _, files, missing, _ = run(BUILD, Artifacts(PLACE), CODE="137", NOTHING="1")
    assert (files, missing) == ({}, {"run_results.json": "dbt has not written it"})


def test_airflow_and_kubernetes_leave_the_script_as_it_is():
    settings = ProjectSettings.of(manifest="m", freshness="before", deps=True, artifacts=EVERYTHING)
    script = container_command(settings).cmds[2]
    assert not re.search(r"\{[{%#]", script)
    assert "$$" not in script
    assert not re.search(r"\$\([A-Za-z_][A-Za-z0-9_]*\)", script)
    assert "@" not in re.sub(r'"\$@"', "", script)
