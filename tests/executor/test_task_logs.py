"""The log of a task that runs in no process of its own: written as Airflow writes it, and brought to where logs are kept."""

import json
import uuid

import pytest
from airflow.sdk import log as airflow_log

from dbt_watch.airflow import task_logs
from dbt_watch.airflow.task_logs import TaskLog

PATH = "dag_id=shop/run_id=manual__2026/task_id=shop.orders/attempt=1.log"
INSTANCE = {
    "id": str(uuid.uuid4()), "dag_version_id": str(uuid.uuid4()), "task_id": "shop.orders", "dag_id": "shop",
    "run_id": "manual__2026", "try_number": 1, "map_index": -1, "pool_slots": 0, "priority_weight": 1, "queue": "default",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    return tmp_path


def test_lines_are_added_in_airflows_form_and_found_again(folder):
    log = TaskLog(PATH)
    log.write(lambda logger: logger.info("%s", "100% done"))
    log.write(lambda logger: logger.error("%s", "no such table"))
    records = [json.loads(line) for line in (folder / PATH).read_text().splitlines()]
    assert [(record["level"], record["event"], record["logger"]) for record in records] == [
        ("info", "100% done", "task"),
        ("error", "no such table", "task"),
    ]
    assert log.texts() == {"100% done", "no such table"}


def test_a_log_that_somebody_else_has_written_to_does_not_matter(folder):
    log = TaskLog(PATH)
    log.write(lambda logger: logger.info("%s", "first"))
    with (folder / PATH).open("ab") as file:
        file.write(b'not json\n[1]\n{"event": 7}\n\xff\xfe')
    assert log.texts() == {"first"}


def test_secrets_are_masked(folder):
    from airflow.sdk.log import mask_secret  # noqa: PLC0415 - not for the other tests

    mask_secret("hunter2-hunter2")
    TaskLog(PATH).write(lambda logger: logger.info("%s", "the password is hunter2-hunter2"))
    assert "hunter2" not in (folder / PATH).read_text()


def test_it_is_brought_to_where_airflow_is_configured_to_keep_logs(monkeypatch):
    class Store:
        uploads = ()

        def upload(self, path, ti):
            self.uploads = (*self.uploads, (path, ti.task_id))

    store = Store()
    for module in (airflow_log, task_logs):
        monkeypatch.setattr(module, "load_remote_log_handler", lambda: store)
    log = TaskLog(PATH)
    log.write(lambda logger: logger.info("%s", "done"))
    assert task_logs.are_kept_elsewhere()
    log.upload(INSTANCE)
    assert store.uploads == ((PATH, "shop.orders"),)
