"""Decisions on their way to whoever waits: at least once, signed, with a state that tells the truth."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from escalations.models import Delivery

GIVE_UP = timedelta(hours=24)
TIMEOUT = urllib3.Timeout(connect=3, read=10)
BACK_OFF_S = (1, 5, 15, 60, 300, 900, 3_600)


class NotAllowed(Exception):
    """A callback address that must not be called."""


def due(now: datetime | None = None, limit: int = 100) -> QuerySet[Delivery]:
    """Deliveries whose time to undo has passed and that nobody has sent, or whose next try has come."""
    now = now or timezone.now()
    return (
        Delivery.objects.filter(
            Q(state=Delivery.State.HELD, due_at__lte=now) | Q(state=Delivery.State.SENT, next_try_at__lte=now),
        )
        .select_related("decision__escalation")
        .order_by("due_at")[:limit]
    )


def mark_sent(delivery: Delivery, *, url: str = "") -> bool:
    """Held → sent: from here on it cannot be undone. False when it was undone or somebody else sent it."""
    now = timezone.now()
    return bool(
        Delivery.objects.filter(pk=delivery.pk)
        .filter(Q(state=Delivery.State.HELD) | Q(state=Delivery.State.SENT, next_try_at__lte=now))
        .update(state=Delivery.State.SENT, url=url, next_try_at=now + timedelta(seconds=60))
    )


def mark_delivered(delivery: Delivery) -> bool:
    """Sent → delivered: the caller has it."""
    return bool(
        Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENT).update(
            state=Delivery.State.DELIVERED, delivered_at=timezone.now(), next_try_at=None, last_error=""
        )
    )


def mark_failed(delivery: Delivery, error: str) -> None:
    """Try again later, for a day; after that it is dead, and visibly so."""
    delivery.refresh_from_db()
    now = timezone.now()
    dead = now - delivery.due_at > GIVE_UP
    wait = BACK_OFF_S[min(delivery.attempts, len(BACK_OFF_S) - 1)]
    Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENT).update(
        state=Delivery.State.DEAD if dead else Delivery.State.SENT,
        attempts=F("attempts") + 1,
        next_try_at=None if dead else now + timedelta(seconds=wait),
        last_error=error[:300],
    )


def sign(body: bytes, secret: str, at: int) -> str:
    """The `x-pilothouse-signature` header: HMAC-SHA256 over "<unix seconds>.<body>"."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post_callback(url: str, payload: Mapping[str, Any], secret: str) -> None:
    """POST the payload, signed. The address is resolved once, checked, and that very address is called.

    :raises NotAllowed: a private address, or not http(s). :raises OSError: no answer, or one that is not 2xx.
    """
    parts, address = vetted(url)
    body = json.dumps(payload, ensure_ascii=False).encode()
    headers = {
        "content-type": "application/json",
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": "pilothouse",
        "x-pilothouse-signature": sign(body, secret, int(time.time())),
    }
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with _pool(parts, address) as pool:
            answer = pool.request(
                "POST", path, body=body, headers=headers, redirect=False, retries=False, preload_content=False
            )
            answer.read(1_024)
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise OSError(f"The callback was not answered: {type(error).__name__}.") from error
    if not 200 <= answer.status < 300:
        raise OSError(f"The callback answered {answer.status}.")


def vetted(url: str) -> tuple[SplitResult, str]:
    """The address and the one IP address to call. :raises NotAllowed: not public and not allow-listed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise NotAllowed("A callback is an http or https address.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotAllowed(f"{host} cannot be resolved.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if host not in settings.CALLBACK_ALLOWED_HOSTS:
        addresses = [address for address in addresses if ipaddress.ip_address(address).is_global]
    if not addresses:
        raise NotAllowed(f"{host} is a private address; list it in PILOTHOUSE_CALLBACK_ALLOWED_HOSTS to allow it.")
    return parts, addresses[0]


def _pool(parts: SplitResult, address: str) -> urllib3.HTTPConnectionPool:
    if parts.scheme == "https":
        return urllib3.HTTPSConnectionPool(
            address, parts.port or 443, timeout=TIMEOUT, server_hostname=parts.hostname, assert_hostname=parts.hostname
        )
    return urllib3.HTTPConnectionPool(address, parts.port or 80, timeout=TIMEOUT)
