"""Runs of DAGs that are begun before a test asks for them."""

from harness import RUN_TIMEOUT, Run, until

# One run alone often waits for Airflow, and all of them would starve a small machine. Fewer than the workers of the Airflow,
# some of which are for the runs that a test starts itself.
AT_ONCE = 4
# In seconds, between two looks at them; each costs the api-server some of what they need.
PAUSE = 1


class RunsAhead:
    """Runs that go on beside the tests, some at a time, in the order in which they were added."""

    def __init__(self, airflow):
        self._airflow = airflow
        self._waiting, self._begun = {}, {}

    def add(self, name, dag_id, conf=None):
        self._waiting[name] = (dag_id, conf)

    def get(self, name):
        """Return a run when it has ended, always as it was then."""
        if name in self._waiting:
            self._begin(name)
        run = self._begun[name]
        if run.state is None:
            until(
                lambda: key(run) not in self.go_on(),
                lambda: f"{name} has not ended",
                RUN_TIMEOUT,
                pause=PAUSE,
            )
            run.end()
        return run

    def go_on(self):
        """
        Begin as many as may go on at once, one of each DAG, and return which do.

        Called before each test, and while one waits.
        """
        self._airflow.check()
        while len(going := self._going()) < AT_ONCE:
            busy = {dag_id for dag_id, _ in going}
            free = [name for name, (dag_id, _) in self._waiting.items() if dag_id not in busy]
            if not free:
                break
            self._begin(free[0])
        return going

    def _begin(self, name):
        self._begun[name] = Run.start(self._airflow, *self._waiting.pop(name))

    def _going(self):
        found = self._airflow.client.get("dags/~/dagRuns", state=["queued", "running"], limit=100)["dag_runs"]
        return {(run["dag_id"], run["dag_run_id"]) for run in found} & set(map(key, self._begun.values()))


def key(run):
    """Return what no other run has."""
    return run.dag_id, run.run_id
