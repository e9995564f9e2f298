"""
What `bench_load` runs in its pods instead of dbt: a log that dbt would write, at an even pace.

Usage: python paced_dbt.py DIRECTORY [what dbt would get]. It waits until there is a file `gate`, so that all pods begin
together, and then writes `log.jsonl`, of which it makes every time the present one, within so many seconds as stand in the
gate.
"""

import re
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")

directory = Path(sys.argv[1])
lines = (directory / "log.jsonl").read_text().splitlines()
gate = directory / "gate"
while not gate.exists():
    time.sleep(0.2)
begun, seconds = gate.stat().st_mtime, float(gate.read_text())
for number, line in enumerate(lines, 1):
    time.sleep(max(0.0, begun + seconds * number / len(lines) - time.time()))
    print(TIME.sub(datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f"), line), flush=True)
sys.exit(1)  # as dbt does when a node has failed
