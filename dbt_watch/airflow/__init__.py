"""
What this library takes from inside Airflow and its providers: everything that may change without notice.

No other module imports a private name of Airflow, or relies on what its public names do beside what is written down;
`nox -s lint` refuses such imports (ruff's TID251). Each module here has names of ours for it. A worker that runs a sensor loads
none of those whose name begins with `pod`: these bring in Kubernetes. The same table is in docs/architecture.md.

| module | what it touches | seen the same in | what breaks when it changes | what to do then | what shows it, in `tests/` |
|---|---|---|---|---|---|
| `supervisor` | the messages of `airflow.sdk.execution_time.comms`, sent through `task_runner.SUPERVISOR_COMMS` | 3.1.8, 3.3.2 | no journal is written by a trigger, and none is read; the states of tasks are not known | the public calls: `get_task_states`, and `XCom.aget_one`, which 3.1 does not have | `sensors/test_supervisor.py` |
| `supervisor` | that the answer about a mapped task names it `task_id_0` | 3.1.8, 3.3.2 | in mapped groups no state is known, so nothing is done before its time is up | look at `TaskStatesResult` | `sensors/test_supervisor.py` |
| `supervisor` | the XCom backend: `execution_time.xcom.XCom`, and which methods `BaseXCom` has itself | 3.1.8, 3.3.2 | a backend that reads an object store stops the triggerer's event loop, or is left out | `XCom.aget_one`, which 3.1 does not have | `sensors/test_supervisor.py` |
| `supervisor` | the class name `InProcessSupervisorComms` | 3.1.8, 3.3.2 | in `dag.test()` a sensor is deferred, and the producer never starts | look for what `dag.test()` sets | `sensors/test_once.py`, `e2e/test_dag_test.py` |
| `supervisor` | that a task's process is a child of its supervisor | 3.1.8, 3.3.2 | a worker whose supervisor was killed cleans up a pod that another attempt follows | ask for the task's state instead | `e2e/test_producer_failures.py` |
| `supervisor` | that a refused request has `error.error.detail["status_code"]` | 3.3.2; asked only where there is a `task_state_store` | an attempt that Airflow gave up does not learn it, and cleans up the pod | look at `AirflowRuntimeError` | `producers/test_memory.py` |
| `task_instances` | that the id of a try is a UUID of version 7 | 3.1.8, 3.3.2 | a sensor that was cleared alone waits for the producer, or believes a journal of before its clear | any time at which Airflow made the try | `sensors/test_task_instances.py`, `e2e/test_clears.py` |
| `task_instances` | that a clear raises `max_tries`, and a retry does not | 3.1.8, 3.3.2 | after a clear a pod of before it is taken over, or a retry starts anew | `clear_number` of the DAG run, if a task is told | `sensors/test_task_instances.py`, `e2e/test_clears.py` |
| `secrets` | `airflow.sdk._shared.secrets_masker.redact` | 3.1.8, 3.3.2 | the producer cannot be imported | `redact` of `airflow.providers.common.compat.sdk`, which needs a lower bound for that provider | `producers/test_secrets.py`, `security/test_secrets.py` |
| `configuration` | `airflow.configuration.conf` on a worker and while a DAG file is parsed; the form of `[core] executor` | 3.1.8, 3.3.2 | the producer cannot be imported | `airflow.sdk.configuration`, once 3.1 is not supported | `producers/test_capacity.py` |
| `execution` | `ExecutorSafeguard.tracker` | 3.1.8, 3.3.2 | what is cleared alone fails at once | `allow_nested_operators`, with a warning in the log | `producers/test_private_api.py`, `e2e/test_clears.py` |
| `execution_api` | the requests of the execution API, its version in `airflow.sdk.api.datamodels._generated`, and the settings of `airflow.sdk.api.client` | 3.3.2 | the executor's tasks do not begin or end | the new requests; the API keeps its old versions for a while | `executor/test_watcher.py`, `e2e/test_executor.py` |
| `execution_api` | that a task may begin and end at any time that is told, and begin twice if the same one says so | 3.3.2 | Airflow shows the times of the requests | none is needed | `e2e/test_executor.py` |
| `execution_api` | `JWTGenerator` and `get_signing_args`, and that a token of the scope `execution` for a queued task may read | 3.3.2 | the executor reads no journal | the tokens of the workloads, which are valid for `task_queued_timeout` | `e2e/test_executor.py` |
| `task_logs` | `init_log_file`, `logging_processors`, `load_remote_log_handler` and `upload_to_remote` of `airflow.sdk.log` | 3.3.2 | the executor's tasks have no log | look at `_configure_logging` of the supervisor | `executor/test_task_logs.py`, `e2e/test_executor.py` |
| `scheduling` | the table of task instances, and that a task is queued for the default executor when it is `scheduled` and names none | 3.3.2 | what needs a worker stays queued | look at `_reschedule_stuck_task` of the scheduler | `e2e/test_executor.py` |
| `scheduling` | the fields of `TaskCallbackRequest`, and that the dag-processor calls a callback for any task that it is told of | 3.3.2 | `on_failure_callback` is not called | look at what a `TaskFailedEvent` sends | `executor/test_node_executor.py`, `e2e/test_executor.py` |
| `scheduling` | that a task which is taken over is not taken for dead at once: `last_heartbeat_at` | 3.3.2 | tasks that run fail after a long outage of the scheduler | none is needed | `executor/test_node_executor.py` |
| `dag_authoring` | `DependencyMixin`, `TaskGroupContext` | 3.1.8, 3.3.2 | DAG files cannot be imported | the public name, or `>>` by hand | `authoring/test_handle.py`, `authoring/test_projects.py` |
| `dag_authoring` | edges by `upstream_task_ids` and `downstream_task_ids` | 3.1.8, 3.3.2 | no edges between sensors; along the lineage they start all at once | `set_upstream`, which takes seconds for thousands of edges | `authoring/test_projects.py` |
| `dag_authoring` | `pool_slots` of 0, set after the constructor | 3.1.8, 3.3.2 | sensors take the slots that their producer needs, in a pool with `include_deferred` | refuse such pools in the pages | `authoring/test_projects.py` |
| `dag_authoring` | `start_from_trigger` and `start_trigger_args`, set on the instance | 3.3.2; of no effect in 3.1.8 | sensors start through a worker | none is needed; `sensors="lineage"` costs the same then | `authoring/test_projects.py` |
| `trigger_events` | when the scheduler hears that a worker ended, and how the triggerer reads logs | 3.1.8, 3.3.2 | nothing: it waits for what may be fixed | remove it, once the issues that it names are closed | `sensors/test_last_event.py` |
| `pods` | `generic_api_retry`, the labels `already_checked` and `try_number` | 10.12.2, 10.25.0 | the producer cannot be imported; a later attempt looks at the end of a pod twice | retry on our own; a label of our own | `producers/test_earlier.py` |
| `pod_operator` | `_build_find_pod_label_selector`, `_set_name`, `_killed`, `patch_already_checked`, `process_pod_deletion` | 10.12.2, 10.25.0 | later attempts fail; a pod is killed twice, or cleaned up under another attempt | the labels of the pod itself | `producers/test_private_api.py` |
| `pod_operator` | that `execute` takes `pod_request_obj` and `pod` as they are set | 10.12.2, 10.25.0 | dbt is called without its command line, or a second time | override `get_or_create_pod` alone | `producers/test_private_api.py`, `producers/test_start_failures.py` |
| `pod_operator` | that a pod with Istio's sidecar is judged by the base container (`is_istio_enabled`) | 10.12.2, 10.25.0 | a task waits for sidecars that run for ever | override `await_pod_completion` | `e2e/test_authoring_examples.py` |
| `pod_operator` | that `trigger_reentry` writes the log by `_write_logs` | 10.12.2, 10.25.0 | after a deferral the raw log of dbt comes behind the lines for people | find the new name | `producers/test_private_api.py` |
| `pod_operator` | the names and arguments of PodManager's `fetch_container_logs`, `fetch_requested_container_logs`, `read_pod`, `run_pod_async`, and `_client` | 10.12.2, 10.25.0; 10.12.1 has other arguments | the log of dbt is read by the provider's reader, and no journal is written | the new arguments; see `producers.log_reader` | `producers/test_private_api.py`, `e2e/test_runs.py` |
| `pod_trigger` | the arguments and attributes of the operator's trigger, the cached property `hook`, the fields of its event | 10.12.2, 10.25.0 | a deferred producer fails, or does not stop when it is told to | the new names | `producers/test_private_api.py`, `producers/test_deferred.py` |
| `compat` | where the exceptions of the SDK are | `airflow.exceptions` in 3.1.8, `airflow.sdk.exceptions` in 3.3.2 | nothing can be imported | another branch on the version | `test_imports.py` |

Three public names are used elsewhere for more than their pages say: `XComArg` has a subclass in `rendering.results`, whose
`resolve` and `iter_references` are Airflow's to call; `XComArg.iter_xcom_references` finds the tasks that a project comes after,
in `authoring.project_factory`; and `producers.operator.producer_class` makes a class with an `execute` and an `__init__` of its
own, since Airflow prepares an operator only for what its class defines itself.
"""
