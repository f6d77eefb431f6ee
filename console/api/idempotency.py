"""`Idempotency-Key` on POSTs that create: the same request gets the same answer, however often it arrives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from console.api.auth import key_of
from console.api.errors import ApiError
from console.models import IdempotencyRecord

HEADER = "idempotency-key"
MOST_CHARS = 200
KEPT = timedelta(days=1)
ABANDONED = timedelta(seconds=60)
SWEPT = 50

Work = Callable[[], Response]


def once(request: Request, work: Work) -> Response:
    """Do the work, or answer as it was answered before under this `Idempotency-Key`; without the header, just do it.

    The work and the record of its answer commit together, so a process that dies in between has done nothing, and the
    client may try again. Errors are not kept. Another request under the same key is a conflict; the same request while
    the first is at work is told to come back.
    """
    token = request.headers.get(HEADER, "")
    if not token:
        with transaction.atomic():
            return work()
    if len(token) > MOST_CHARS:
        raise ApiError(400, "invalid", f"An Idempotency-Key has at most {MOST_CHARS} characters.")
    record = _claim(request, token)
    if record.status is not None:
        headers = {"Idempotency-Replayed": "true"} | ({"Location": record.location} if record.location else {})
        return Response(record.body, status=record.status, headers=headers)
    try:
        with transaction.atomic():
            response = work()
            _keep(record, response)
    except BaseException:
        IdempotencyRecord.objects.filter(pk=record.pk, status=None).delete()
        raise
    return response


def idempotent(view: Callable[..., Response]) -> Callable[..., Response]:
    """A view's `post` whose whole work happens once."""

    @wraps(view)
    def wrapper(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        return once(request, lambda: view(self, request, *args, **kwargs))

    return wrapper


def _claim(request: Request, token: str) -> IdempotencyRecord:
    """A record of one's own, or the finished one of the same request. :raises ApiError: conflict, or in flight."""
    key, digest, now = key_of(request), _digest(request), timezone.now()
    mine = IdempotencyRecord.objects.filter(key=key, token=token)
    mine.filter(at__lt=now - KEPT).delete()
    mine.filter(status=None, at__lt=now - ABANDONED).delete()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(key=key, token=token, request_sha256=digest)
    except IntegrityError:
        found = mine.first()
    if found and found.request_sha256 != digest:
        raise ApiError(409, "idempotency_conflict", "This Idempotency-Key was used for another request.")
    if found is None or found.status is None:
        message = "The first request with this Idempotency-Key is still at work."
        raise ApiError(409, "idempotency_in_flight", message, headers={"Retry-After": "1"})
    return found


def _keep(record: IdempotencyRecord, response: Response) -> None:
    """:raises ApiError: the record was given up meanwhile and somebody else may be doing the same."""
    stored = orjson.loads(JSONEncoder().encode(response.data))
    location = response.headers.get("location", "")
    kept = IdempotencyRecord.objects.filter(pk=record.pk, status=None).update(
        status=response.status_code, body=stored, location=location
    )
    if not kept:
        raise ApiError(409, "idempotency_in_flight", "This took too long. Try again.", headers={"Retry-After": "1"})
    _sweep()


def _sweep() -> None:
    """Drop some of the oldest records when their day is over; each new one pays for them."""
    oldest = IdempotencyRecord.objects.order_by("pk").select_for_update(skip_locked=True)
    past = [row.pk for row in oldest.only("at")[:SWEPT] if row.at < timezone.now() - KEPT]
    if past:
        IdempotencyRecord.objects.filter(pk__in=past).delete()


def _digest(request: Request) -> str:
    said = orjson.dumps([request.method, request.path, request.data], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(said).hexdigest()
