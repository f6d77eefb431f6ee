"""A process that is killed between its hold and its settlement."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

from redis import Redis

from budgets import ledger
from tests.budgets.conftest import counter, rows

CALLER = """
    import asyncio, sys
    import redis.asyncio
    from budgets import ledger
    from budgets.ledger import Limit

    async def main():
        money = redis.asyncio.Redis.from_url(sys.argv[1])
        limits = [Limit("organisation:", "month", "UTC", 10**12, 1)]
        for number in range(5):
            hold = await ledger.reserve(money, f"c{number}", 1, 100, limits, ttl_s=1, context={"model": "gpt"})
            if number < 3:
                entry = {"call_id": hold.call_id, "attempt": "1", "status": "ok", "cost_nano": "60"}
                await ledger.settle(money, hold, 60, entry)
        print("held", flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


def test_a_killed_process_leaves_each_call_charged_and_logged_once(store: Redis, redis_url: str) -> None:
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CALLER), redis_url], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"held\n"
    caller.kill()
    caller.wait()
    caller.stdout.close()
    (key,) = (name.decode() for name in store.keys("ph:b:*"))
    assert counter(store, key) == (180, 200)
    expired, deadline = 0, time.monotonic() + 10
    while expired < 2 and time.monotonic() < deadline:
        expired += ledger.expire(store)
        time.sleep(0.05)
    assert counter(store, key) == (380, 0)
    assert len(store.xrange("ph:calls")) == len(rows(store)) == 5
    estimates = [row for row in rows(store).values() if row["status"] == "expired"]
    assert [(row["model"], row["cost_nano"], row["price"]) for row in estimates] == [("gpt", "100", "estimated")] * 2
