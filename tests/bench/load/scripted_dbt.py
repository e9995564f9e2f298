"""
What `bench_scale` runs in its pods instead of dbt: the log that dbt would write of a project, in real time.

Usage: python scripted_dbt.py [what dbt would get]. Beside it stand `pace.json`, with the seconds that each node takes, the
threads and the name of a plan, and that plan (`scripted_plan` makes it): the nodes with their parents, and the lines that dbt
writes when one starts and ends. A node starts when its parents are done and a thread is free. Like dbt it writes text or
JSON, at info or at debug, as it is asked to. When a node has ended, it is noted in `ends`.
"""

import heapq
import json
import re
import sys
import time
from collections import defaultdict, deque
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent


def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


IS_JSON, IS_DEBUG = option("--log-format") == "json", option("--log-level") == "debug"


def write(lines, **values):
    """Write lines of a plan, with the present and these values put in."""
    values["now"] = now()
    text = []
    for level, line in lines:
        if level == "debug" and not IS_DEBUG:
            continue
        filled = re.sub(r"@([a-z]+)@", lambda found: str(values[found[1]]), line)
        text.append(f"{filled if IS_JSON else for_people(filled)}\n")
    sys.stdout.write("".join(text))
    sys.stdout.flush()


def for_people(line):
    message = json.loads(line)["info"]["msg"]
    return f"{datetime.now(timezone.utc):%H:%M:%S}  " + re.sub(r"\x1b\[\d+m", "", message)


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")


class Build:
    """A build: `ready` are the nodes that may start, `running` those that have, with the time at which each ends."""

    def __init__(self, plan, seconds, threads):
        self._nodes, self._lines, self._seconds = plan["nodes"], plan["lines"], seconds
        self._threads = list(range(1, threads + 1))
        self._open_parents = {unique_id: len(node["parents"]) for unique_id, node in self._nodes.items()}
        self._children = defaultdict(list)
        for unique_id, node in self._nodes.items():
            for parent in node["parents"]:
                self._children[parent].append(unique_id)
        self._ready = deque(unique_id for unique_id, count in self._open_parents.items() if not count)
        self._running, self._started = [], 0

    def run(self, ends):
        while self._ready or self._running:
            while self._ready and self._threads:
                self._start(self._ready.popleft(), self._threads.pop())
            due, thread, values = heapq.heappop(self._running)
            time.sleep(max(0.0, due - time.time()))
            self._end(values)
            print(values["id"], time.time(), file=ends, flush=True)
            self._threads.append(thread)

    def _start(self, unique_id, thread):
        self._started += 1
        node = self._nodes[unique_id]
        values = {
            "id": unique_id,
            "name": node["name"],
            "index": self._started,
            "thread": thread,
            "began": now(),
        }
        write(self._lines[node["kind"]]["start"], **values)
        heapq.heappush(self._running, (time.time() + self._seconds, thread, values))

    def _end(self, values):
        unique_id = values["id"]
        write(self._lines[self._nodes[unique_id]["kind"]]["end"], **values)
        for child in self._children[unique_id]:
            self._open_parents[child] -= 1
            if not self._open_parents[child]:
                self._ready.append(child)


pace = json.loads((HERE / "pace.json").read_text())
plan = json.loads((HERE / pace["plan"]).read_text())
time.sleep(pace["startup"])
write(plan["head"])
with (HERE / "ends").open("a") as noted:
    Build(plan, pace["seconds"], pace["threads"]).run(noted)
write(plan["tail"])
