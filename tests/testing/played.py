"""Runs that a `FakeDbt` plays in this process, and what the core makes of their logs."""

import io

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.testing.player import MANIFEST, CommandPlayer, ProcessEnded

BUILD = ("--log-format", "json", "--log-level", "debug", "build")


class Played:
    """
    One command.

    :ivar log: what it printed
    :ivar exit_code: of the process
    :ivar slept: the seconds that it would have waited
    """

    def __init__(self, fake, *words, project_dir=None):
        words = words or BUILD
        fake.image(project_dir=project_dir)
        out = io.StringIO()
        self.slept = 0.0
        self.directory = fake._directory()
        try:
            self.exit_code = CommandPlayer(self.directory, words, out, sleep=self._sleep).run()
        except ProcessEnded as end:
            self.exit_code = end.exit_code
        self.log = out.getvalue()

    def _sleep(self, seconds):
        self.slept += seconds

    def entries(self, run_results=None):
        """Return what the ledger knows of each node at the end."""
        path = self.directory / MANIFEST
        nodes = load_manifest(path).nodes if path.exists() else {}
        stream = LogStream(Ledger(nodes))
        stream.feed(self.log.encode())
        stream.close(self.exit_code, run_results)
        return dict(stream.ledger.entries)

    def states(self):
        return {node: entry.status for node, entry in self.entries().items()}
