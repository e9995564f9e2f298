"""
A pytest plugin with what the patches' own tests take from Airflow's repository, which no release holds.

`dag_maker`, `session`, `tests_common.test_utils.db` and coroutines as tests: only as much of each as these tests use.
"""

import asyncio
import inspect
import sys
from datetime import datetime, timezone
from types import ModuleType

import pytest
from airflow.models import DagModel, DagRun, Trigger
from airflow.models.callback import Callback
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete

BUNDLE = "dag_maker"
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def _clear(model):
    def clear():
        with create_session() as session:
            session.execute(delete(model))

    return clear


_db = ModuleType("tests_common.test_utils.db")
_db.clear_db_runs = _clear(DagRun)
_db.clear_db_dags = _clear(DagModel)
_db.clear_db_triggers = _clear(Trigger)
_db.clear_db_callbacks = _clear(Callback)
for _module in (ModuleType("tests_common"), ModuleType("tests_common.test_utils"), _db):
    sys.modules[_module.__name__] = _module


def pytest_configure(config):
    config.addinivalue_line("markers", "db_test: it needs the database")
    config.addinivalue_line("markers", "asyncio: it is a coroutine")
    initdb()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture
def session():
    with create_session() as session:
        yield session


@pytest.fixture
def dag_maker():
    return DagMaker()


class DagMaker:
    def __call__(self, dag_id, *, session, serialized, default_args=None):
        assert serialized
        self._session = session
        self._dag = DAG(dag_id, schedule=None, start_date=WHEN, default_args=default_args or {})
        return self

    def __enter__(self):
        return self._dag.__enter__()

    def __exit__(self, *raised):
        self._dag.__exit__(*raised)
        if raised == (None, None, None):
            self._session.merge(DagBundleModel(name=BUNDLE))
            self._session.flush()
            self._session.add(
                DagModel(dag_id=self._dag.dag_id, bundle_name=BUNDLE, relative_fileloc="test_dag.py")
            )
            self._session.flush()
            serialized = LazyDeserializedDAG.from_dag(self._dag)
            SerializedDagModel.write_dag(serialized, bundle_name=BUNDLE, session=self._session)
            self._session.commit()

    def create_dagrun(self):
        dag = SerializedDagModel.get_dag(self._dag.dag_id, session=self._session)
        return dag.create_dagrun(
            run_id="test",
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            logical_date=WHEN,
            data_interval=(WHEN, WHEN),
            run_after=WHEN,
            triggered_by=DagRunTriggeredByType.TEST,
            session=self._session,
        )
