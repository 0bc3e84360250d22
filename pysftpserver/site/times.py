"""Hours of the week: `mon-fri 08:00-18:00`.

What may not enter: rules, clocks.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from time import struct_time

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
_HOURS = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)


class Hours:
    """Hours of some days. An end that is before the beginning is on the next day.

    text: `DAY-DAY HH:MM-HH:MM`; without days, every day. Raises ValueError.
    """

    def __init__(self, text: str) -> None:
        found = _HOURS.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f'{text}: write hours such as "mon-fri 08:00-18:00"')
        first, last, *numbers = found.groups()
        for day in (first, last):
            if day is not None and day not in DAYS:
                raise ValueError(f"{day}: write days as {', '.join(DAYS)}")
        hour, minute, last_hour, last_minute = map(int, numbers)
        self._begin, self._end = hour * 60 + minute, last_hour * 60 + last_minute
        if (
            minute > 59
            or last_minute > 59
            or self._begin >= DAY
            or self._end > DAY
            or self._begin == self._end
        ):
            raise ValueError(f"{text}: write times from 00:00 to 24:00, the second other than the first")
        begin = DAYS.index(first) if first else 0
        end = DAYS.index(last) if last else begin if first else 6
        self._days = {(begin + day) % 7 for day in range((end - begin) % 7 + 1)}
        self.text = text

    def __repr__(self) -> str:
        return f"Hours({self.text!r})"

    def holds(self, moment: struct_time) -> bool:
        """Whether a moment is within them."""
        minute = moment.tm_hour * 60 + moment.tm_min
        today = moment.tm_wday in self._days
        if self._begin < self._end:
            return today and self._begin <= minute < self._end
        yesterday = (moment.tm_wday - 1) % 7 in self._days
        return today and minute >= self._begin or yesterday and minute < self._end
