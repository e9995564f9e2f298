"""Lines of a log, as dbt writes them at the log level debug."""

import json

BEGINNING = json.dumps(
    {
        "info": {
            "name": "MainReportVersion",
            "ts": "2026-01-01T00:00:00.000000Z",
            "level": "info",
            "invocation_id": "i",
        },
        "data": {},
    }
)


def said(unique_id, status):
    """Say as dbt does at the log level debug how a node has ended."""
    info = {
        "unique_id": unique_id,
        "node_name": unique_id.split(".")[-1],
        "node_status": status,
        "resource_type": unique_id.split(".")[0],
        "node_started_at": "2026-01-01T00:00:00",
        "node_finished_at": "2026-01-01T00:00:01",
    }
    result = {"status": status, "message": f"{status} with pa55-of-the-warehouse", "execution_time": 1.0}
    head = {
        "name": "NodeFinished",
        "ts": "2026-01-01T00:00:01.000000Z",
        "level": "debug",
        "invocation_id": "i",
    }
    return json.dumps({"info": head, "data": {"node_info": info, "run_result": result}})
