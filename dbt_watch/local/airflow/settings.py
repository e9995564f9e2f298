"""
The configuration of a short-lived Airflow on one machine, as environment variables. Used by `deployment`.

Names and meanings: https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
"""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Login:
    """The one user of the web interface and the REST API."""

    username: str = "admin"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))


def airflow_environment(home: Path, dags_folder: Path, port: int, login: Login) -> dict[str, str]:
    """
    Return the whole environment for the processes of one Airflow.

    It is this process's environment without any setting of another Airflow.

    :param home: a directory of its own, for database, logs and secrets
    :param dags_folder: where the DAG files are
    :param port: of the api-server, on loopback
    :param login: who may log in
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW"))
    }
    address = f"http://127.0.0.1:{port}"
    settings = {
        "core__dags_folder": str(dags_folder),
        "core__executor": "LocalExecutor",
        "core__parallelism": "4",
        "core__load_examples": "False",
        # In seconds. A small machine with much else to do needs longer than the default for Airflow's own imports.
        "core__dagbag_import_timeout": "240",
        "dag_processor__dag_file_processor_timeout": "300",
        "core__dags_are_paused_at_creation": "False",
        "core__fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "core__execution_api_server_url": f"{address}/execution/",
        "core__auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "core__simple_auth_manager_users": f"{login.username}:admin",
        "core__simple_auth_manager_passwords_file": str(home / "passwords.json"),
        # The default asks the name server for the full name, which takes seconds where there is none.
        "core__hostname_callable": "socket.gethostname",
        "core__plugins_folder": str(home / "plugins"),
        # SQLite has one writer at a time; a triggerer that has waited in vain for its turn, 5 s by default, ends.
        "database__sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=120",
        "api__base_url": address,
        "api__host": "127.0.0.1",
        "api__port": str(port),
        "api__workers": "1",
        "api__secret_key": secrets.token_hex(16),
        "api__maximum_page_limit": "1000",
        "api_auth__jwt_secret": secrets.token_hex(32),
        # The scheduler sleeps this long, in seconds, when a loop had nothing to do; the default is 1.
        "scheduler__scheduler_idle_sleep_time": "0.4",
        "scheduler__use_job_schedule": "False",
        "dag_processor__parsing_processes": "1",
        "dag_processor__min_file_process_interval": "30",
        "dag_processor__refresh_interval": "5",
        "dag_processor__bundle_refresh_check_interval": "1",
        "logging__base_log_folder": str(home / "logs"),
        "logging__dag_processor_child_process_log_directory": str(home / "logs" / "dag_processor"),
        "logging__colored_console_log": "False",
        "usage_data_collection__enabled": "False",
    }
    return {
        **inherited,
        **{f"AIRFLOW__{name.upper()}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        # What a killed task leaves behind goes with the home.
        "TMPDIR": str(home / "tmp"),
        # Tasks talk to the api-server; a proxy must not come in between.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
    }
