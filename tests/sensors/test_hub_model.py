"""
The hub against a model: any order of attempts, reports, deaths, clears and restarts.

Time is a number here, so each look happens exactly when a rule says so.
"""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_hub import Airflow

from dbt_watch.core.outcome import Verdict
from dbt_watch.sensors.hub import Hub, Subscription
from dbt_watch.sensors.updates import Sensor

NODES = [f"model.shop.m{number}" for number in range(4)]
GOOD, BAD = ["success", "warn", "no-op"], ["error", "skipped", "fail"]
RETRIES = 2


class Project(RuleBasedStateMachine):
    """One producer with its retries, four nodes, and sensors that come and go."""

    @initialize()
    def start(self):
        self.airflow = Airflow()
        self.hub = Hub("build.dbt_build", self.airflow)
        self.now = 0.0
        self.attempt = 0
        self.max_attempt = 1 + RETRIES
        self.clock = 0
        self.written_at = 0  # a journal tells its attempt with its first words
        self.began = 0
        self.cleared_at = dict.fromkeys(NODES, 0)
        self.came = set()
        self.has_come_before = set()
        self.is_starting = False
        self.is_open = False
        self.reported = {}
        self.sensors = {}
        self.verdicts = {}

    # What the scheduler, the producer and people do.

    @precondition(lambda self: self.airflow.current_state in {None, "scheduled", "queued", "up_for_retry"})
    @rule(step=st.sampled_from(["scheduled", "queued", "running"]))
    def goes_on(self, step):
        if step != "running":
            self.airflow.current_state = step
            return
        self.airflow.current_state = "running"
        self.is_starting = True

    @precondition(lambda self: self.is_starting)
    @rule()
    def the_code_of_an_attempt_begins(self):
        self.is_starting = False
        self.attempt += 1
        self.reported = {}
        self.is_open = True
        self.began = self.written_at = self.tick()
        self.airflow.begin(self.attempt, will_retry=self.attempt < self.max_attempt, began=self.began)

    @precondition(lambda self: self.is_starting)
    @rule()
    def an_attempt_dies_before_its_code_begins(self):
        self.is_starting = False
        self.attempt += 1
        self.ends_badly()

    def ends_badly(self):
        if self.attempt < self.max_attempt:
            self.airflow.current_state = "up_for_retry"
        else:
            self.airflow.current_state = "failed"

    def tick(self):
        self.clock += 1
        return self.clock

    @precondition(lambda self: self.is_open)
    @rule(node=st.sampled_from(NODES), status=st.sampled_from(["started", *GOOD, *BAD]))
    def dbt_reports(self, node, status):
        if self.reported.get(node, "started") == "started":
            self.reported[node] = status
            self.airflow.report(node, status)

    @precondition(lambda self: self.is_open)
    @rule(word=st.booleans())
    def dbt_ends(self, word):
        well = all(self.reported.get(node) in GOOD for node in NODES)
        if word:
            self.airflow.close(0 if well else 1)
        self.is_open = False
        if word and well:
            self.airflow.current_state = "success"
        else:
            self.ends_badly()

    # Rare orders are found sooner when common ones are one step.

    @precondition(lambda self: self.airflow.current_state in {None, "scheduled", "queued", "up_for_retry"})
    @rule(statuses=st.tuples(*[st.sampled_from([None, *GOOD, *BAD]) for _ in NODES]), word=st.booleans())
    def a_whole_attempt(self, statuses, word):
        self.goes_on("running")
        self.the_code_of_an_attempt_begins()
        for node, status in zip(NODES, statuses, strict=True):
            if status is not None:
                self.dbt_reports(node, status)
        self.dbt_ends(word)

    @rule()
    def all_sensors_come_and_learn(self):
        for node in NODES:
            self.a_sensor_comes(node)
        for _ in range(2):
            self.look(20.0, verify=True)

    @precondition(lambda self: self.airflow.current_state is None)
    @rule(state=st.sampled_from(["upstream_failed", "removed", "skipped"]))
    def never_runs(self, state):
        self.airflow.current_state = state

    @precondition(lambda self: not self.is_open and not self.is_starting)
    @rule()
    def the_run_is_cleared(self):
        # The tasks of a large run are made over a while.
        self.cleared_at = {node: self.tick() for node in NODES}
        self.has_come_before |= self.came
        self.max_attempt = self.attempt + 1 + RETRIES
        self.airflow.current_state = None
        self.reported = {}
        for sensor in self.sensors.values():
            sensor.__exit__()
        self.sensors = {}
        self.verdicts = {}

    @precondition(lambda self: self.verdicts)
    @rule(data=st.data())
    def a_sensor_is_cleared_alone(self, data):
        node = data.draw(st.sampled_from(sorted(self.verdicts)))
        self.sensors.pop(node).__exit__()
        del self.verdicts[node]
        self.cleared_at[node] = self.tick()
        self.has_come_before.add(node)
        self.airflow.states_of.pop(node, None)

    @precondition(lambda self: "running" in self.airflow.states_of.values())
    @rule()
    def a_sensor_has_built_its_node(self):
        self.airflow.states_of = dict.fromkeys(self.airflow.states_of, "success")

    # What the triggerer does.

    def sensor_of(self, node):
        return Sensor(
            unique_ids=(node,),
            task_id=node,
            made_at=self.cleared_at[node],
            is_first_try=node not in self.has_come_before,
            turn=NODES.index(node),
        )

    @rule(node=st.sampled_from(NODES))
    def a_sensor_comes(self, node):
        if node not in self.sensors:
            self.came.add(node)
            self.sensors[node] = Subscription(self.hub, self.sensor_of(node))
            self.hub.add(self.sensors[node])

    @rule()
    def the_triggerer_restarts(self):
        for node, sensor in self.sensors.items():
            if node not in self.verdicts:
                sensor.__exit__()
        self.hub = Hub("build.dbt_build", self.airflow)
        # One that builds is not known to another triggerer; there the pods are what the next one waits for.
        self.airflow.states_of.clear()
        for node in self.sensors:
            if node not in self.verdicts:
                self.sensors[node] = Subscription(self.hub, self.sensor_of(node))
                self.hub.add(self.sensors[node])

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0, 20.0]), verify=st.booleans(), broken=st.booleans())
    def the_hub_looks(self, seconds, verify, broken):
        self.look(seconds, verify=verify, broken=broken)

    def look(self, seconds, *, verify, broken=False):
        self.now += seconds
        newcomers = [sensor for sensor in self.sensors.values() if not sensor.verified]
        self.airflow.broken = broken
        try:
            asyncio.run(self.hub._look(self.now, verify=verify))
            if verify:
                self.hub._welcome(newcomers)
        except ConnectionError:
            pass
        self.airflow.broken = False
        for node, sensor in self.sensors.items():
            if sensor.is_over and node not in self.verdicts:
                self.verdicts[node] = sensor._last.verdict
                self.judge(node, self.verdicts[node])

    # What must hold.

    def judge(self, node, verdict):
        state, status = self.airflow.current_state, self.reported.get(node)
        is_stale = self.written_at < self.cleared_at[node]
        if verdict is Verdict.SUCCEED:
            assert status in GOOD
            assert not is_stale
        if verdict is Verdict.FAIL:
            assert status not in GOOD or is_stale
            assert self.attempt >= self.max_attempt
        if verdict is Verdict.BUILD:
            assert is_stale
            assert "running" not in self.airflow.states_of.values()
            self.airflow.states_of[node] = "running"
            assert state in {"success", "failed"}  # so dbt does not run
        if verdict is Verdict.SKIP:
            assert state in {"success", "upstream_failed", "removed", "skipped"}
            assert status not in GOOD or state != "success"

    @invariant()
    def requests_are_bounded(self):
        assert getattr(self, "airflow", None) is None or self.airflow.requests < 10_000

    def teardown(self):
        """Whatever happened: when the producer is over, every sensor ends."""
        if not hasattr(self, "airflow"):
            return
        if self.is_starting:
            self.the_code_of_an_attempt_begins()
        if self.is_open:
            self.max_attempt = self.attempt
            self.airflow.current_state = "failed"
        elif self.airflow.current_state not in {"success", "failed", "upstream_failed", "removed", "skipped"}:
            self.airflow.current_state = "removed"
        for _ in range(2 + 2 * len(NODES)):
            self.airflow.states_of = dict.fromkeys(self.airflow.states_of, "success")
            self.look(60.0, verify=True)
        assert set(self.verdicts) == set(self.sensors)


Project.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestProject = Project.TestCase
