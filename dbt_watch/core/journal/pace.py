"""
How often a journal is written and read: often at first, since a short build is over in a second; less often the longer it is.

The cost depends on the number of pages, not on the number of sensors.
"""

from __future__ import annotations

from typing import Final

# In seconds.
USUAL_INTERVAL: Final = 0.3
LONGEST_INTERVAL: Final = 2.0

_EARLY: Final = 1 / 3  # of the usual interval, for the first pages
_EARLY_PAGES: Final = 10  # after so many it is the usual one
_GROWTH: Final = 0.0005  # in seconds, with each page
_IN_VAIN: Final = 1.25  # times the pause before


def interval_after(pages: int, usual: float) -> float:
    """
    Return the seconds between two pages: fewer for the first ten, then the more the more pages there are.

    With 0.3 s and changes all the time, it is 0.1 s at first, 0.3 s after 2 s, 0.8 s after 10 minutes, 1.9 s after an hour, and
    then 2 s.

    :param pages: how many there are
    :param usual: the seconds between pages after the first ten
    """
    if pages < _EARLY_PAGES:
        return usual * max(_EARLY, pages / _EARLY_PAGES)
    return max(usual, min(LONGEST_INTERVAL, usual + _GROWTH * pages))


class ReadingPace:
    """
    When to look for the next page.

    After a look that has found one, the writer's interval, at most the usual one; after each in vain a quarter longer, up to the
    usual one. Of a long journal it is half of the writer's, so that the delay stays with the writer's.

    :param usual: seconds, as for the writer
    """

    def __init__(self, usual: float = USUAL_INTERVAL) -> None:
        self._usual = usual
        self._pages = -1
        self._pause = usual

    def after(self, pages: int) -> float:
        """
        Return the seconds to wait after a look.

        :param pages: how many have been read by then
        """
        interval = interval_after(pages, self._usual)
        self._pause = min(interval if pages > self._pages else _IN_VAIN * self._pause, self._usual)
        self._pages = pages
        return max(self._pause, interval / 2)
