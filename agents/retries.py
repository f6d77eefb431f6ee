"""How many second tries this process may make."""

from __future__ import annotations

import time


class RetryBudget:
    """Retries are at most a share of this process's calls, so that an outage is not answered with a storm; where calls
    are few, so many a second are allowed all the same.
    """

    def __init__(self, share: float, a_second: float, spare: float) -> None:
        self.share, self.a_second, self.most = share, a_second, spare
        self.left, self.at = spare, time.monotonic()

    def call(self) -> None:
        now = time.monotonic()
        self.left = min(self.most, self.left + self.share + (now - self.at) * self.a_second)
        self.at = now

    def take(self) -> bool:
        if self.left < 1:
            return False
        self.left -= 1
        return True


RETRIES = RetryBudget(share=0.1, a_second=2, spare=20)
