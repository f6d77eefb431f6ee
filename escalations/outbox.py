"""Decisions on their way to whoever waits: at least once, signed, with a state that tells the truth."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import urllib3
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from urllib3.connection import HTTPConnection, HTTPSConnection

from escalations.models import Decision, Delivery

GIVE_UP = timedelta(hours=24)
RESEND_AFTER = timedelta(seconds=60)
PATIENCE_S = 5.0
LONGEST_S = 15.0
DEFAULT_PORTS = {"http": 80, "https": 443}
UNQUOTED = "/%:@!$&'()*+,;=~-._?"
TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
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
    """Held → sent: from here on it cannot be undone. False when it was undone, or somebody else is sending it.

    A sender that dies leaves it to be sent again after a minute.
    """
    now = timezone.now()
    return bool(
        Delivery.objects.filter(pk=delivery.pk)
        .filter(Q(state=Delivery.State.HELD) | Q(state=Delivery.State.SENT, next_try_at__lte=now))
        .update(state=Delivery.State.SENT, url=url[:500], next_try_at=now + RESEND_AFTER)
    )


def mark_placed(delivery: Delivery) -> None:
    """It lies where the caller fetches it, so nobody needs to send it again."""
    Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENT).update(next_try_at=None)


def mark_delivered(delivery: Delivery) -> bool:
    """Sent → delivered: the caller has it."""
    return bool(
        Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENT).update(
            state=Delivery.State.DELIVERED, delivered_at=timezone.now(), next_try_at=None, last_error=""
        )
    )


def acknowledge(decision: Decision) -> bool:
    """Sent or delivered → acknowledged: the caller fetched the decision, or said so."""
    on_its_way = (Delivery.State.SENT, Delivery.State.DELIVERED)
    return bool(
        Delivery.objects.filter(decision=decision, state__in=on_its_way).update(
            state=Delivery.State.ACKNOWLEDGED, delivered_at=Coalesce("delivered_at", timezone.now()), next_try_at=None
        )
    )


def mark_failed(delivery: Delivery, error: str) -> None:
    """Try again later, for a day; after that it is dead, and visibly so."""
    delivery.refresh_from_db(fields=["attempts", "due_at"])
    now = timezone.now()
    dead = now - delivery.due_at > GIVE_UP
    wait = BACK_OFF_S[min(delivery.attempts, len(BACK_OFF_S) - 1)]
    Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENT).update(
        state=Delivery.State.DEAD if dead else Delivery.State.SENT,
        attempts=F("attempts") + 1,
        next_try_at=None if dead else now + timedelta(seconds=wait),
        last_error=error.replace("\x00", "")[:300],
    )


def sign(body: bytes, secret: str, at: int) -> str:
    """The `x-pilothouse-signature` header: HMAC-SHA256 over "<unix seconds>.<body>"."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post_callback(url: str, payload: Mapping[str, Any], secret: str) -> None:
    """POST the payload, signed. The address is resolved once, checked and called; no redirect is followed.

    :raises NotAllowed: a private address, or not http(s). :raises OSError: no answer in time, or one that is not 2xx.
    """
    parts, address = vetted(url)
    body = json.dumps(payload, ensure_ascii=False).encode()
    headers = {
        "content-type": "application/json",
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": "pilothouse",
        "x-pilothouse-signature": sign(body, secret, int(time.time())),
    }
    try:
        status = _status_of(_connection(parts, address), _path(parts), body, headers)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise OSError(f"The callback was not answered: {type(error).__name__}.") from error
    if not 200 <= status < 300:
        raise OSError(f"The callback answered {status}.")


def vetted(url: str) -> tuple[SplitResult, str]:
    """The address and the one IP address to call. :raises NotAllowed: not public and not allow-listed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise NotAllowed("A callback is an http or https address.") from error
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise NotAllowed("A callback is an http or https address.")
    try:
        found = socket.getaddrinfo(host, port or DEFAULT_PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotAllowed(f"{host} cannot be resolved.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if host not in settings.CALLBACK_ALLOWED_HOSTS:
        addresses = [address for address in addresses if is_public(address)]
    if not addresses:
        raise NotAllowed(f"{host} is a private address; list it in PILOTHOUSE_CALLBACK_ALLOWED_HOSTS to allow it.")
    return parts, addresses[0]


def is_public(address: str) -> bool:
    """Globally reachable, and not a way around that: no multicast, and no IPv4 address wrapped into an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    wrapped = isinstance(ip, ipaddress.IPv6Address) and (
        ip.ipv4_mapped or ip.sixtofour or ip.teredo or any(ip in network for network in TRANSLATED)
    )
    return ip.is_global and not ip.is_multicast and not wrapped


def _connection(parts: SplitResult, address: str) -> HTTPConnection:
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if parts.scheme == "http":
        return HTTPConnection(address, port, timeout=PATIENCE_S)
    return HTTPSConnection(
        address,
        port,
        timeout=PATIENCE_S,
        server_hostname=parts.hostname,
        assert_hostname=parts.hostname,
        cert_reqs="CERT_REQUIRED",
    )


def _status_of(connection: HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of the answer; its body is not read, and one that trickles in is cut off."""
    hang_up = threading.Timer(LONGEST_S, _cut, [connection])
    hang_up.start()
    try:
        connection.request("POST", path, body=body, headers=headers, preload_content=False)
        return connection.getresponse().status
    finally:
        hang_up.cancel()
        connection.close()


def _cut(connection: HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _path(parts: SplitResult) -> str:
    return quote(parts.path or "/", safe=UNQUOTED) + (f"?{quote(parts.query, safe=UNQUOTED)}" if parts.query else "")
