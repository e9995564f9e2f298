"""How long to wait after failures in a row: longer each time, up to a limit."""

from __future__ import annotations

import random


class Backoff:
    """
    The waits of one loop that tries again.

    :param first: seconds to wait after the first failure
    :param limit: seconds that no wait is longer than, but for the jitter
    :param factor: how many times longer each wait is than the one before
    :param jitter: by which part of itself a wait is longer or shorter at random, at most; so that many that fail together
        do not all come back together
    """

    def __init__(self, first: float, limit: float, *, factor: float = 2.0, jitter: float = 0.0) -> None:
        self._first = first
        self._limit = limit
        self._factor = factor
        self._jitter = jitter
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many failures there have been in a row."""
        return self._failures

    def next(self) -> float:
        """Count a failure, and return the seconds to wait after it."""
        self._failures += 1
        return self.after(self._failures)

    def reset(self) -> None:
        """Start over, since it has worked."""
        self._failures = 0

    def after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row, for one who keeps the count elsewhere."""
        growth = self._factor ** min(failures - 1, _MOST_STEPS)
        seconds = min(self._limit, self._first * growth)
        return seconds * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret


_MOST_STEPS = 64  # the limit is reached long before; a power of more may be too large for a float
