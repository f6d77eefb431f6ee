"""Bearer keys in memory: a call is authenticated without asking Postgres."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import Error as DatabaseError

from agents.connections import in_database
from agents.snapshot import Snapshot
from console.models import ApiKey


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a key may do. Empty `agent` and `channel`: bound to none."""

    prefix: str
    agent: str
    channel: str
    tester: bool
    expires_at: float

    @property
    def expired(self) -> bool:
        return self.expires_at <= time.time()


class KeyRing:
    """Every usable gateway key by its hash, read anew whenever the configuration's epoch moves."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._keys: Mapping[str, Bearer] = {}

    async def find(self, secret: str, snapshot: Snapshot) -> Bearer | None:
        if self._snapshot is not snapshot:
            try:
                self._keys = await in_database(load)
            except DatabaseError:
                if self._snapshot is None:
                    raise
            self._snapshot = snapshot
        bearer = self._keys.get(ApiKey.digest(secret))
        return None if bearer is None or bearer.expired else bearer


def load() -> dict[str, Bearer]:
    rows = ApiKey.objects.filter(revoked_at=None, scopes__contains=["gateway"]).select_related(
        "agent", "channel__agent"
    )
    return {
        row.sha256: Bearer(
            prefix=row.prefix,
            agent=row.agent.slug if row.agent else "",
            channel=str(row.channel) if row.channel else "",
            tester=row.tester,
            expires_at=row.expires_at.timestamp() if row.expires_at else float("inf"),
        )
        for row in rows
    }
