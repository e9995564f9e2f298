"""
Makes OpenLineage's events of what happens in a build.

The only module of this package that imports OpenLineage's client; the thread of `lineage.sender` loads it. Jobs and facets are
named as by the `dbt-ol --consume-structured-logs` of openlineage-dbt; docs/lineage.md has the differences.
"""

from __future__ import annotations

import functools
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    datasource_dataset,
    documentation_dataset,
    error_message_run,
    external_query_run,
    job_type_job,
    output_statistics_output_dataset,
    ownership_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    sql_job,
    tags_run,
)
from openlineage.client.uuid import generate_static_uuid

from dbt_watch import __version__
from dbt_watch.core import statuses
from dbt_watch.lineage.facts import DATASETS, NodeFacts
from dbt_watch.lineage.happenings import NodeEnded, NodeStarted, RunEnded, RunStarted
from dbt_watch.lineage.naming import dataset_name, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbt_watch.core.results import NodeResult
    from dbt_watch.lineage.happenings import DbtInvocation, Happening
    from dbt_watch.lineage.plan import LineagePlan

PRODUCER: Final = f"urn:dbt-watch:{__version__}"
# Where openlineage-dbt has published what its own facets hold.
_SCHEMAS: Final = (
    "https://github.com/OpenLineage/OpenLineage/tree/main/integration/common/openlineage/schema/"
)
_JOB_TYPES: Final = {"unit_test": "TEST"}


class LineageEvents:
    """
    The events of one attempt.

    :param plan: what they are made of beside what happens
    """

    def __init__(self, plan: LineagePlan) -> None:
        self._plan = plan
        self._facts = plan.facts
        # The names of tables as dbt has built them, which may differ from the manifest's with the target.
        self._built: dict[str, tuple[str, ...]] = {}
        self._dialect = plan.facts.adapter or None

    @functools.singledispatchmethod
    def of(self, happening: Happening) -> RunEvent:
        """Return the event of something that happens."""
        raise NotImplementedError(happening)

    @of.register(RunStarted)
    def _(self, happening: RunStarted) -> RunEvent:
        return self._run_event(RunState.START, happening.invocation, happening.invocation.began)

    @of.register(RunEnded)
    def _(self, happening: RunEnded) -> RunEvent:
        if happening.exit_code == 0:
            return self._run_event(RunState.COMPLETE, happening.invocation, happening.at)
        state = RunState.ABORT if happening.exit_code is None else RunState.FAIL
        text = happening.reason or "dbt did not end well"
        return self._run_event(state, happening.invocation, happening.at, errorMessage=_error(text))

    @of.register(NodeStarted)
    def _(self, happening: NodeStarted) -> RunEvent:
        result = happening.result
        self._note(result)
        return self._node_event(
            RunState.START,
            happening.invocation,
            result,
            result.started_at,
            inputs=self._inputs(result.unique_id),
            outputs=[self._output(result.unique_id)] if result.resource_type in DATASETS else [],
        )

    @of.register(NodeEnded)
    def _(self, happening: NodeEnded) -> RunEvent:
        result, sql = happening.result, happening.sql
        self._note(result)
        state = _state_of(result)
        run_facets = dict(self._result_facets(result, state))
        inputs, outputs = self._inputs(result.unique_id), []
        if result.resource_type in DATASETS:
            outputs = [self._built_output(result, sql, is_built=state is RunState.COMPLETE)]
        elif result.resource_type == "test" and state is not RunState.ABORT:
            inputs = self._checked_inputs(result)
        if result.resource_type in {"test", "unit_test"} and state is not RunState.ABORT:
            run_facets.update(self._test_facet(result, sql))
        return self._node_event(
            state,
            happening.invocation,
            result,
            result.finished_at,
            inputs=inputs,
            outputs=outputs,
            sql=sql,
            **run_facets,
        )

    # Runs and jobs.

    def _run_event(
        self, state: RunState, invocation: DbtInvocation, at: datetime | None, **run_facets: Any
    ) -> RunEvent:
        above = self._plan.parent
        parent = self._parent(above.namespace, above.job, above.run_id)
        return RunEvent(
            eventType=state,
            eventTime=_time(at),
            run=Run(run_id_of(invocation), {**self._common(invocation), "parent": parent, **run_facets}),
            job=Job(above.namespace, self._job_name, {"jobType": _job_type("JOB")}),
            inputs=[],
            outputs=[],
            producer=PRODUCER,
        )

    def _node_event(
        self,
        state: RunState,
        invocation: DbtInvocation,
        result: NodeResult,
        at: datetime | None,
        *,
        inputs: list[InputDataset],
        outputs: list[OutputDataset],
        sql: str | None = None,
        **run_facets: Any,
    ) -> RunEvent:
        namespace = self._plan.parent.namespace
        facets = {
            **self._common(invocation),
            "parent": self._parent(namespace, self._job_name, run_id_of(invocation)),
            **self._tags(result.unique_id),
            **run_facets,
        }
        kind = result.resource_type
        job_facets: dict[str, Any] = {"jobType": _job_type(_JOB_TYPES.get(kind, kind.upper()))}
        job_facets["dbt_node"] = self._dbt_node(result.unique_id)
        if sql is not None:
            job_facets["sql"] = sql_job.SQLJobFacet(query=sql, dialect=self._dialect, producer=PRODUCER)
        return RunEvent(
            eventType=state,
            eventTime=_time(at),
            run=Run(node_run_id_of(result), facets),
            job=Job(namespace, result.unique_id, job_facets),
            inputs=inputs,
            outputs=outputs,
            producer=PRODUCER,
        )

    @property
    def _job_name(self) -> str:
        return f"dbt-run-{self._facts.name}"

    def _parent(self, namespace: str, job: str, run_id: str) -> parent_run.ParentRunFacet:
        above = self._plan.parent
        return parent_run.ParentRunFacet(
            run=parent_run.Run(run_id),
            job=parent_run.Job(namespace, job),
            root=parent_run.Root(
                parent_run.RootRun(above.root_run_id),
                parent_run.RootJob(above.root_namespace, above.root_job),
            ),
            producer=PRODUCER,
        )

    def _common(self, invocation: DbtInvocation) -> dict[str, Any]:
        facets: dict[str, Any] = {
            "dbt_run": _own(
                "dbt-run-run", invocation_id=invocation.invocation_id, project_name=self._facts.name
            )
        }
        if invocation.version:
            facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
                version=invocation.version,
                name="dbt",
                openlineageAdapterVersion=__version__,
                producer=PRODUCER,
            )
        return facets

    def _dbt_node(self, unique_id: str) -> dict[str, Any]:
        facts = self._facts.nodes.get(unique_id, _UNKNOWN)
        database, schema, alias = self._parts(unique_id, facts)
        return _own(
            "dbt-node-job",
            original_file_path=facts.path or None,
            database=database,
            schema=schema,
            alias=alias,
            unique_id=unique_id,
            test_type=None if facts.test is None else "singular" if facts.test.of is None else "generic",
        )

    def _tags(self, unique_id: str) -> dict[str, Any]:
        tags = self._facts.nodes.get(unique_id, _UNKNOWN).tags
        if not tags:
            return {}
        fields = [tags_run.TagsRunFacetFields(key, value, source) for key, value, source in tags]
        return {"tags": tags_run.TagsRunFacet(fields, producer=PRODUCER)}

    def _result_facets(self, result: NodeResult, state: RunState) -> Iterator[tuple[str, Any]]:
        if state in {RunState.FAIL, RunState.ABORT}:
            yield "errorMessage", _error(result.message or f"dbt reported {result.status!r}")
        query = _query_id(self._facts.adapter, result.adapter_response)
        if query is not None:
            yield (
                "externalQuery",
                external_query_run.ExternalQueryRunFacet(
                    externalQueryId=query, source=self._plan.namespace, producer=PRODUCER
                ),
            )

    # Tests.

    def _checked_inputs(self, result: NodeResult) -> list[InputDataset]:
        """Return the tables that a data test is about, with what it has found."""
        facts = self._facts.nodes.get(result.unique_id, _UNKNOWN)
        test = facts.test
        if test is None:
            return self._inputs(result.unique_id)
        values = {
            "assertion": test.assertion,
            "success": result.status == "pass",
            "column": test.column,
            "severity": test.severity,
            "name": facts.name,
            "actual": None if result.failures is None else str(result.failures),
            "expected": None if result.failures is None else test.expected,
        }
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[_made(data_quality_assertions_dataset.Assertion, values)], producer=PRODUCER
        )
        tables = [test.of] if test.of in self._facts.nodes else facts.reads
        # dbt-ol has it among the facets of the dataset; the specification has it among those of the input.
        facets = {"dataQualityAssertions": facet}
        return [self._input(table, facets, facets) for table in tables if table is not None]

    def _test_facet(self, result: NodeResult, sql: str | None) -> dict[str, Any]:
        """Return what a test has found apart from any table, for one that was not written at one."""
        facts = self._facts.nodes.get(result.unique_id, _UNKNOWN)
        test = facts.test
        if test is not None and test.of is not None:
            return {}
        try:
            from openlineage.client.facet_v2 import test_run  # noqa: PLC0415 - older clients do not have it
        except ImportError:
            return {}
        values = {
            "name": result.unique_id,
            "status": "pass" if result.status in {"pass", "success"} else "fail",
            "severity": test.severity if test is not None else "error",
            "type": "singular" if test is not None else "unit_test",
            "description": facts.description or None,
            "actual": str(result.failures) if test is not None and result.failures is not None else None,
            "expected": test.expected if test is not None and result.failures is not None else None,
            "content": sql,
            "contentType": None if sql is None else "sql",
        }
        execution = _made(test_run.TestExecution, values)
        return {"test": test_run.TestRunFacet(tests=[execution], producer=PRODUCER)}

    # Tables.

    def _note(self, result: NodeResult) -> None:
        parts = parts_of(result.relation_name) if result.resource_type in DATASETS else ()
        if parts:
            self._built[result.unique_id] = parts

    def _parts(self, unique_id: str, facts: NodeFacts) -> tuple[str | None, str | None, str | None]:
        parts = self._built.get(unique_id) or facts.parts
        database, schema, name = (None, None, None, *parts)[-3:]
        return database, schema, name

    def _name(self, unique_id: str) -> str:
        facts = self._facts.nodes.get(unique_id, _UNKNOWN)
        return dataset_name(self._built.get(unique_id) or facts.parts) or unique_id

    def _inputs(self, unique_id: str) -> list[InputDataset]:
        return [self._input(table) for table in self._facts.nodes.get(unique_id, _UNKNOWN).reads]

    def _input(
        self, unique_id: str, facets: Mapping[str, Any] = {}, input_facets: Mapping[str, Any] = {}
    ) -> InputDataset:
        return InputDataset(
            namespace=self._plan.namespace,
            name=self._name(unique_id),
            facets={**self._table_facets(unique_id), **facets},
            inputFacets=dict(input_facets),
        )

    def _output(self, unique_id: str, **more: Any) -> OutputDataset:
        return OutputDataset(
            namespace=self._plan.namespace,
            name=self._name(unique_id),
            facets=self._table_facets(unique_id),
            **more,
        )

    def _built_output(self, result: NodeResult, sql: str | None, *, is_built: bool) -> OutputDataset:
        output_facets: dict[str, Any] = {}
        size = result.adapter_response.get("bytes_processed")
        size = size if isinstance(size, int) else None
        if is_built and (result.rows_affected is not None or size is not None):
            output_facets["outputStatistics"] = (
                output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                    rowCount=result.rows_affected, size=size, producer=PRODUCER
                )
            )
        output = self._output(result.unique_id, outputFacets=output_facets)
        columns = self._column_lineage(sql) if sql is not None else None
        if columns is not None and output.facets is not None:
            output.facets["columnLineage"] = columns
        return output

    def _table_facets(self, unique_id: str) -> dict[str, Any]:
        facts = self._facts.nodes.get(unique_id, _UNKNOWN)
        namespace = self._plan.namespace
        facets: dict[str, Any] = {
            "dataSource": datasource_dataset.DatasourceDatasetFacet(
                name=namespace, uri=namespace, producer=PRODUCER
            )
        }
        if facts.description:
            facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(
                description=facts.description, producer=PRODUCER
            )
        if facts.columns:
            facets["schema"] = schema_dataset.SchemaDatasetFacet(
                fields=[
                    schema_dataset.SchemaDatasetFacetFields(
                        name=column.name, type=column.type or None, description=column.description or None
                    )
                    for column in facts.columns
                ],
                producer=PRODUCER,
            )
        if facts.owners:
            facets["ownership"] = ownership_dataset.OwnershipDatasetFacet(
                owners=[ownership_dataset.Owner(name=name) for name in facts.owners], producer=PRODUCER
            )
        return facets

    def _column_lineage(self, sql: str) -> column_lineage_dataset.ColumnLineageDatasetFacet | None:
        """Return which columns the columns of a statement's result come from, where its SQL is understood."""
        parse = _sql_parser()
        parsed = parse(sql, dialect=self._dialect) if parse is not None else None
        fields = {}
        for column in parsed.column_lineage if parsed is not None else ():
            origins = [origin for origin in column.lineage if origin.origin is not None]
            if origins:
                fields[column.descendant.name] = column_lineage_dataset.Fields(
                    inputFields=[
                        column_lineage_dataset.InputField(
                            namespace=self._plan.namespace,
                            name=dataset_name(
                                (origin.origin.database, origin.origin.schema, origin.origin.name)
                            ),
                            field=origin.name,
                        )
                        for origin in origins
                    ]
                )
        return (
            column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, producer=PRODUCER)
            if fields
            else None
        )


def run_id_of(invocation: DbtInvocation) -> str:
    """Return the id of the run of a command of dbt: its own, so that artifacts and logs of dbt lead to it."""
    try:
        return str(UUID(invocation.invocation_id))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"{PRODUCER}#{invocation.invocation_id}"))


def node_run_id_of(result: NodeResult) -> str:
    """Return the id of the run of a node: the same whoever reads the log of dbt, and however often."""
    instant = result.started_at or result.finished_at or _EPOCH
    return str(generate_static_uuid(instant, f"{result.invocation_id}.{result.unique_id}".encode()))


_UNKNOWN: Final = NodeFacts("", "")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _state_of(result: NodeResult) -> RunState:
    if result.is_success or result.is_warning:
        return RunState.COMPLETE
    is_failure = result.is_failure and result.status != statuses.CANCELLED
    return RunState.FAIL if is_failure else RunState.ABORT


def _query_id(adapter: str, response: Mapping[str, Any]) -> str | None:
    """Return the id that the warehouse has given the query, where the adapter tells it."""
    if adapter == "bigquery":
        job, project, place = (response.get(name) for name in ("job_id", "project_id", "location"))
        query = f"{project}:{place}.{job}" if job and project and place else job
    else:
        query = response.get("query_id")
    return query if isinstance(query, str) and query and query.lower() != "n/a" else None


def _job_type(job_type: str) -> job_type_job.JobTypeJobFacet:
    return job_type_job.JobTypeJobFacet(
        jobType=job_type, integration="DBT", processingType="BATCH", producer=PRODUCER
    )


def _error(text: str) -> error_message_run.ErrorMessageRunFacet:
    return error_message_run.ErrorMessageRunFacet(message=text, programmingLanguage="sql", producer=PRODUCER)


def _own(facet: str, /, **values: Any) -> dict[str, Any]:
    """Return a facet that only dbt's integrations have, as openlineage-dbt names its fields."""
    return {"_producer": PRODUCER, "_schemaURL": f"{_SCHEMAS}{facet}-facet.json", **values}


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    """Return a part of a facet, without what this version of the client does not know."""
    known = {field.name for field in kind.__attrs_attrs__}
    return kind(**{name: value for name, value in values.items() if name in known})


@functools.cache
def _sql_parser() -> Any:
    """Return OpenLineage's parser of SQL, which comes with Airflow's provider; None where it is not there."""
    try:
        from openlineage.common.sql import parse  # noqa: PLC0415 - it is a compiled library, which may be missing
    except ImportError:
        return None
    return parse


def _time(at: datetime | None) -> str:
    return (at or datetime.now(timezone.utc)).isoformat()
