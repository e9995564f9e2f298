"""How a duration is written for people; the summary, the picture and the messages use it."""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600
_WHOLE: Final = 10


def duration(seconds: float) -> str:
    """Return a duration in at most two units: "0.05 s", "12.3 s", "4 min 10 s", "2 h 5 min"."""
    if seconds < _WHOLE:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // _MINUTE} h {minutes % _MINUTE} min"


def change(before: float, now: float) -> str:
    """Return a change of a duration with its sign, and in percent where that says something."""
    difference = now - before
    sign = "-" if difference < 0 else "+"
    share = f" ({sign}{abs(difference) / before:.0%})" if before > 0 else ""
    return f"{sign}{duration(abs(difference))}{share}"
