"""Durations in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration in words, such as "40 seconds", "12 minutes" or "1 hour 5 minutes"."""
    if seconds < 1:
        return "less than a second"
    if round(seconds) < 60:
        return _counted(round(seconds), "second")
    hours, minutes = divmod(round(seconds / 60), 60)
    parts = [_counted(count, name) for count, name in ((hours, "hour"), (minutes, "minute")) if count]
    return " ".join(parts)


def span(low: float, high: float) -> str:
    """Return two durations in seconds as a range in words, such as "3 to 50 minutes"."""
    first, last = duration(low), duration(high)
    if first == last:
        return last
    if low < 1:
        return f"up to {last}"
    number, *unit = first.split(" ")
    alike = len(unit) == 1 and last.count(" ") == 1 and last.split(" ")[1].rstrip("s") == unit[0].rstrip("s")
    return f"{number if alike else first} to {last}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
