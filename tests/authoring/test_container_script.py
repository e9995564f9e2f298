"""The shell's script in the container, run by a real shell with something in the place of dbt."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from dbt_watch.authoring.container import container_command
from dbt_watch.authoring.settings import ProjectSettings

# Writes down how it was called. Called for a check of sources, it writes the log that it is told to, and may wait.
DBT = """#!/bin/sh
for word; do printf '%s\\n' "$word"; done > "$NOTES/$(ls "$NOTES" | wc -l)"
case " $* " in
*" deps "*) exit "${DEPS:-0}" ;;
*" freshness "*)
    printf '%s\\n' "$LOG"
    [ -z "$HANGS" ] || exec sleep 300
    exit "$CODE" ;;
esac
trap 'exit 7' INT
[ -z "$BUILD_WAITS" ] || { echo building; sleep 300 & wait; }
"""
CHECK = [
    "source",
    "freshness",
    "--vars",
    '{"a": "$(touch /tmp/x) `id` \\" \' *"}',
    "--select",
    "source:shop.raw.a",
]
BUILD = ["build", "--vars", "{{a b}}", "", "--select", "x"]


def record(unique_id, status, **more):
    info = {"unique_id": unique_id, "node_status": status, "resource_type": "source"}
    data = {"node_info": info, "source_name": "raw", "status": status, **more}
    return json.dumps({"data": data, "info": {"code": "Q018", "name": "LogFreshnessResult"}})


STALE = record("source.shop.raw.a", "error")
BROKEN = record("source.shop.raw.b", "runtime error")
FRESH = record("source.shop.raw.c", "pass")
# What looks like a stale source, but is another event, or a text within one.
DECEPTIVE = "\n".join(
    [
        json.dumps(
            {"data": {"status": "error", "unique_id": "source.shop.raw.x"}, "info": {"name": "Other"}}
        ),
        record("source.shop.raw.c", "warn", text=record("source.shop.raw.y", "error")),
        record("source.shop.raw.c --full-refresh", "error"),
        "no JSON at all",
    ]
)


@pytest.fixture(params=["/bin/sh", "bash"])
def run(request, tmp_path):
    """Return what runs the container's command; it answers how dbt was called, and how the process ended."""
    notes, dbt, temporary = tmp_path / "notes", tmp_path / "my dbt", tmp_path / "tmp"
    for directory in (notes, temporary):
        directory.mkdir()
    dbt.write_text(DBT)
    dbt.chmod(0o755)

    class Runner:
        def start(self, arguments, *, log="", code=0, freshness="before", deps=False, **environment):
            settings = ProjectSettings.of(
                manifest="m", freshness=freshness, deps=deps, project_dir="/my shop", cmds=[str(dbt)]
            )
            words = container_command(settings).cmds
            assert words[0] == "/bin/sh"
            own = {
                "NOTES": str(notes),
                "LOG": log,
                "CODE": str(code),
                "TMPDIR": str(temporary),
                **environment,
            }
            return subprocess.Popen(
                [request.param, *words[1:], *arguments],
                env={**os.environ, **own}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip

        def calls(self):
            return [path.read_text().split("\n")[:-1] for path in sorted(notes.iterdir())]

        def __call__(self, arguments, **more):
            process = self.start(arguments, **more)
            output, errors = process.communicate(timeout=240)
            assert errors == ""
            assert not list(temporary.iterdir())
            return process.returncode, self.calls(), output

    return Runner()


BOTH = [str(len(CHECK)), *CHECK, *BUILD]


def test_when_all_sources_are_fresh_all_is_built(run):
    assert run(BOTH, log=FRESH) == (0, [CHECK, BUILD], f"{FRESH}\n")


def test_what_reads_from_stale_sources_is_left_out_of_the_build(run):
    code, calls, output = run(BOTH, log=f"{STALE}\n{FRESH}\n{DECEPTIVE}\n{BROKEN}", code=1)
    assert code == 0
    assert calls == [CHECK, [*BUILD, "--exclude", "source:shop.raw.a+", "source:shop.raw.b+"]]
    assert output == f"{STALE}\n{FRESH}\n{DECEPTIVE}\n{BROKEN}\n"


@pytest.mark.parametrize(("code", "log"), [(1, FRESH), (1, ""), (1, DECEPTIVE), (2, STALE), (137, FRESH)])
def test_when_dbt_itself_fails_nothing_is_built(run, code, log):
    assert run(BOTH, log=log, code=code)[:2] == (code, [CHECK])


@pytest.mark.parametrize("arguments", [CHECK, BUILD, ["--flag"]])
def test_one_command_alone_is_run_as_it_is(run, arguments):
    assert run(arguments, log=STALE)[:2] == (0, [arguments])


def test_packages_are_installed_before_the_check(run):
    code, (deps, *others), _ = run(BOTH, log=FRESH, deps=True)
    assert (code, others) == (0, [CHECK, BUILD])
    assert deps[-3:] == ["deps", "--project-dir", "/my shop"]


def test_when_packages_cannot_be_installed_nothing_else_is_done(run):
    code, calls, _ = run(BOTH, deps=True, DEPS="2")
    assert (code, len(calls)) == (2, 1)


def end_group_of(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_check_at_once_and_nothing_is_built(run, number):
    process = run.start(BOTH, log=FRESH, HANGS="1")
    try:
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(240) == 130
        assert run.calls() == [CHECK]
    finally:
        end_group_of(process)


def test_a_signal_reaches_the_build_itself(run):
    process = run.start(BOTH, log=FRESH, BUILD_WAITS="1")
    try:
        wait_for(lambda: process.stdout.readline() == "building\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 7
    finally:
        end_group_of(process)


def test_airflow_sees_no_template_in_the_script():
    settings = ProjectSettings.of(manifest="m", freshness="before", deps=True)
    script = container_command(settings).cmds[2]
    assert not re.search(r"\{[{%#]", script)
