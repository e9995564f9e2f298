"""The parts of a server, in the process of the tests."""

from serving import command
from starlette.testclient import TestClient

from dbt_watch.server.app import create_app
from dbt_watch.server.database import Database
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.settings import load_settings
from dbt_watch.server.tokens import TokenStore
from dbt_watch.server.worker.runner import Runner


class ServerDesk:
    """The parts of a server, in this process."""

    def __init__(self, config):
        self.config = config
        self.settings = load_settings(config)
        self.app = create_app(self.settings)
        self.database = Database(self.settings.database_url)
        self.store = InvocationStore(self.database, queued=self.settings.limits.queued)
        self.tokens = TokenStore(self.database)
        self.token = self.tokens.make("all")
        self.client = self.client_of(self.token)
        self.runner = Runner(self.settings, self.store, lambda: False)

    def client_of(self, token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)

    def post(self, words, task_id=None, client=None, **more):
        body = {"command": words, **more} | ({"task_id": task_id} if task_id else {})
        return (client or self.client).post("/invocations", json=body)

    def run(self, task_id="one", **asked):
        """Post what the stand-in is to do, let it, and return what became of it."""
        answer = self.post(command(**asked), task_id)
        assert answer.status_code == 200, answer.text
        self.runner.work()
        return self.client.get(f"/invocations/{task_id}").json()

    def log(self, task_id="one"):
        return self.client.get(f"/invocations/{task_id}/log").text
