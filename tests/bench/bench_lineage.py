"""
What it costs to tell OpenLineage of a build: `python tests/bench/bench_lineage.py [--json]`.

The recorded run of `tests/lineage`, and one of a thousand nodes that is made of its lines, go through `BuildWatch` without lineage
and with it, to a file transport, and to one that takes 5 s for each event. CPU seconds are those of the thread that follows the log
and of the thread that makes and sends events, apart. Nothing of Airflow runs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "lineage"))
MODEL, TEST = "model.jaffle_shop.orders", "test.jaffle_shop.unique_orders_order_id.fed79b3a6e"
SLOW_S = 5.0
SAMPLES = 1_000


def copies(count: int) -> tuple[dict[str, Any], list[bytes]]:
    """Return a manifest of so many nodes, half of them tests of the others, and the log of a build of them."""
    import replayed  # noqa: PLC0415

    manifest = json.loads(replayed.MANIFEST)
    text = {name: json.dumps(manifest["nodes"][name]) for name in (MODEL, TEST)}
    lines = {
        name: [line for line in replayed.LOG if f'"unique_id": "{name}"'.encode() in line] for name in text
    }
    head, tail = replayed.LOG[0], [line for line in replayed.LOG if b'"StatsLine"' in line]
    nodes: dict[str, Any] = {}
    log = [head]
    for number in range(count // 2):
        for name in (MODEL, TEST):
            swap = numbered(number)
            node = json.loads(swap(text[name]))
            nodes[node["unique_id"]] = node
            log += [swap(line.decode()).encode() for line in lines[name]]
    manifest["nodes"], manifest["unit_tests"] = nodes, {}
    return manifest, log + tail


def numbered(number: int) -> Any:
    """Return what gives the names of the recorded nodes a number."""
    word = re.compile(r"\b(unique_orders_order_id|orders)\b(?!_)")
    return lambda text: word.sub(rf"\1_{number}", text)


def measured(manifest: dict[str, Any], log: list[bytes]) -> dict[str, Any]:
    """Follow a log in three ways."""
    import replayed  # noqa: PLC0415
    from openlineage.client import OpenLineageClient  # noqa: PLC0415
    from openlineage.client.serde import Serde  # noqa: PLC0415

    from dbt_watch.core.manifest.load import decode_manifest  # noqa: PLC0415
    from dbt_watch.lineage.facts import JOBS, project_facts  # noqa: PLC0415
    from dbt_watch.lineage.plan import pack_plan  # noqa: PLC0415
    from dbt_watch.producers.build_watch import BuildWatch  # noqa: PLC0415
    from dbt_watch.producers.lineage import BuildLineage  # noqa: PLC0415

    content = json.dumps(manifest).encode()
    nodes = {
        key: node
        for key, node in decode_manifest(content, location="").nodes.items()
        if node.resource_type in JOBS
    }
    began = time.thread_time()
    facts = project_facts(content, nodes)
    plan = replayed.plan(facts=facts)
    found: dict[str, Any] = {"nodes": len(nodes), "manifest_s": time.thread_time() - began}
    began = time.thread_time()
    found["packed_bytes"] = len(pack_plan(plan))
    found["pack_s"] = time.thread_time() - began

    def follow(listener: Any) -> float:
        watch = BuildWatch(nodes, attempt=1, show=lambda line: None, listener=listener)
        began = time.thread_time()
        for start in range(0, len(log), 20):
            watch.take_lines(log[start : start + 20], True)
        watch.end(0)
        return time.thread_time() - began

    found["follow_s"] = min(follow(None) for _ in range(3))
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "events.jsonl"
        transport = {"type": "file", "log_file_path": str(path), "append": True}
        client = OpenLineageClient(config={"transport": transport})
        spent = []

        class Counting:
            def emit(self, event: Any) -> None:
                client.emit(event)
                spent.append((time.thread_time(), len(Serde.to_json(event))))

            def close(self, timeout: float) -> None:
                client.close(timeout)

        own = BuildLineage(plan, is_worker=True)
        own._client = Counting()
        found["follow_with_s"] = follow(own)
        own._sender.close(600, wait=True)
        found["events"], found["sender_s"] = len(spent), spent[-1][0]
        found["event_bytes"] = sum(size for _, size in spent) / len(spent)

    class Slow:
        def emit(self, event: Any) -> None:
            del event
            time.sleep(SLOW_S)

        def close(self, timeout: float) -> None:
            del timeout

    own = BuildLineage(plan, is_worker=True)
    own._client = Slow()
    began = time.monotonic()
    follow(own)
    found["slow_follow_s"] = time.monotonic() - began
    own.close()
    found["slow_all_s"] = time.monotonic() - began
    found["slow_dropped"] = own._sender._dropped
    return found


def without_provider() -> float:
    """Return the seconds that it takes to find out that the provider is not installed."""
    began = time.perf_counter()
    for _ in range(SAMPLES):
        importlib.util.find_spec("airflow.providers.not_installed")
    return (time.perf_counter() - began) / SAMPLES


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    importlib.import_module("airflow.sdk")  # so that it does not count as a part of the next
    began = time.process_time()
    importlib.import_module("airflow.providers.openlineage.plugins.adapter")
    importlib.import_module("dbt_watch.lineage.events")

    figures: dict[str, Any] = {
        "import_s": time.process_time() - began,
        "without_provider_s": without_provider(),
    }
    import replayed  # noqa: PLC0415

    figures["example"] = measured(json.loads(replayed.MANIFEST), replayed.LOG)
    figures["1000"] = measured(*copies(SAMPLES))
    print(json.dumps(figures, indent=1) if options.json else table(figures))


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table."""
    names = ("example", "1000")
    lines = [
        f"import of the provider's client: {figures['import_s']:.2f} s CPU",
        f"without the provider: {figures['without_provider_s'] * 1e6:.0f} us for each attempt",
        "| | " + " | ".join(names) + " |",
    ]
    lines += [
        f"| {key} | " + " | ".join(f"{figures[name][key]:.4g}" for name in names) + " |"
        for key in figures[names[0]]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
