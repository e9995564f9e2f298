"""
Stands in for dbt: does what `--vars` says, in a fraction of dbt's time.

It writes a line when it begins and when it ends to `runs.log` beside its project, so that tests see what ran when.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

arguments = sys.argv[1:]
asked = json.loads(arguments[arguments.index("--vars") + 1]) if "--vars" in arguments else {}
task_id = os.environ["DBT_WATCH_TASK_ID"]
target_path = Path(os.environ["DBT_TARGET_PATH"])
runs = Path(os.environ["DBT_PROJECT_DIR"]).parent / "runs.log"


def note(what):
    with runs.open("a") as log:
        log.write(f"{what} {task_id} {os.getpid()} {time.time()}\n")


def say(message, level="info"):
    sys.stdout.write(json.dumps({"data": {}, "info": {"msg": message, "level": level}}) + "\n")
    sys.stdout.flush()


def interrupted(*_):
    say("interrupted")
    note("interrupted")
    sys.exit(1)


signal.signal(signal.SIGINT, signal.SIG_IGN if asked.get("deaf") else interrupted)
note("begin")
say(f"arguments {arguments}")
if "child" in asked:
    subprocess.Popen(["sleep", str(asked["child"])])
if "say" in asked:
    say(asked["say"])
if "show" in asked:
    say(os.environ.get(asked["show"], "not there"))
if "megabytes" in asked:
    line = b'{"data": {}, "info": {"level": "debug", "msg": "' + b"x" * 974 + b'"}}\n'
    for _ in range(asked["megabytes"]):
        sys.stdout.buffer.write(line * 1000)
    sys.stdout.buffer.flush()
if "sleep" in asked:
    until = time.monotonic() + asked["sleep"]
    while time.monotonic() < until:
        time.sleep(0.05)
if "run" in asked:
    exec(asked["run"])  # noqa: S102 - of a test
if "error" in asked:
    say(asked["error"], "error")
target_path.joinpath("run_results.json").write_text(json.dumps({"results": [], "by": task_id, **asked}))
note("end")
if "signal" in asked:
    os.kill(os.getpid(), asked["signal"])
sys.exit(asked.get("exit", 0))
