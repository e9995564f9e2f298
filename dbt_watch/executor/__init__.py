"""
The executor that runs sensors without a worker and without a trigger: a part in the scheduler, and a process of its own.

`node_executor` is Airflow's side: it takes tasks and hands them on. `watcher`, in the process that `process` begins, reads the
journals with the hub of `sensors` and tells Airflow of each task by its execution API. `messages` is what the two say to
each other.
"""
