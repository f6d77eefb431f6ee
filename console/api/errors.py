"""One error shape: `{"error": {"code", "message", "details"}}`. The one place where exceptions become statuses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DataError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from redis import RedisError
from rest_framework import exceptions
from rest_framework.response import Response

from agents import cases, releases, stages
from budgets.ledger import Unavailable
from console.access import Unclear
from console.api.serializers import DecisionSerializer
from console.monitoring import alerts
from escalations import queue as review

log = logging.getLogger(__name__)
NOTHING_HERE = "There is nothing here, or it is not yours to see."
NOT_ALLOWED = "This key may not do that."


class ApiError(exceptions.APIException):
    """An error with a status, a code and headers of its own."""

    def __init__(
        self, status: int, code: str, message: str, details: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, code)
        self.status_code, self.code, self.message, self.details = status, code, message, details
        self.headers = dict(headers or {})


def body(code: str, message: str, details: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or {}}}


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler. What nobody foresaw is logged and answered without a trace."""
    found = _of_the_door(error) or _of_the_domain(error)
    if found is None:
        log.error("unhandled error in %s", type(context.get("view")).__name__, exc_info=error)
        found = ApiError(500, "internal_error", "Something went wrong here; it was written down.")
    return Response(body(found.code, found.message, found.details), status=found.status_code, headers=found.headers)


def _of_the_door(error: Exception) -> ApiError | None:
    match error:
        case ApiError():
            return error
        case Http404() | exceptions.NotFound():
            return ApiError(404, "not_found", str(error) if isinstance(error, Http404) and error.args else NOTHING_HERE)
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            headers = {"WWW-Authenticate": "Bearer"}
            message = "The API key is missing, unknown, expired or revoked."
            return ApiError(401, "invalid_api_key", message, headers=headers)
        case PermissionDenied() | exceptions.PermissionDenied():
            return ApiError(403, "forbidden", str(error) or NOT_ALLOWED)
        case exceptions.ValidationError():
            return ApiError(400, "invalid", "Some fields are missing or not acceptable.", error.detail)
        case exceptions.UnsupportedMediaType():
            return ApiError(415, "unsupported_media_type", "Send the body as application/json.")
        case exceptions.Throttled():
            headers = {"Retry-After": str(int(getattr(error, "wait", None) or 1))}
            return ApiError(429, "too_many_requests", "Too many requests. Try again shortly.", headers=headers)
        case exceptions.APIException():
            codes = error.get_codes()
            return ApiError(error.status_code, codes if isinstance(codes, str) else "error", str(error.detail))
        case SuspiciousOperation():
            return ApiError(400, "invalid", "The request cannot be read.")
    return None


def _of_the_domain(error: Exception) -> ApiError | None:
    match error:
        case cases.Invalid() | releases.Invalid() | review.Invalid() | Unclear():
            return ApiError(400, "invalid", str(error))
        case cases.NoRelease():
            return ApiError(409, "no_release", str(error))
        case releases.Conflict() | alerts.Conflict():
            return ApiError(409, "conflict", str(error))
        case stages.NotYet():
            return ApiError(409, "gate_not_passed", str(error), error.gate.as_evidence() if error.gate else None)
        case review.AlreadyDecided():
            recorded = DecisionSerializer(error.decision).data if error.decision else None
            return ApiError(409, "already_decided", str(error), {"decision": recorded})
        case review.Superseded():
            return ApiError(409, "superseded", str(error))
        case review.Taken():
            return ApiError(409, "taken", str(error), {"holder": error.holder})
        case review.Refused():
            return ApiError(403, "refused", str(error))
        case DataError():
            return ApiError(400, "invalid", "A value is out of range.")
        case Unavailable() | RedisError() | OperationalError():
            message = "The service is degraded. Try again shortly."
            return ApiError(503, "service_degraded", message, headers={"Retry-After": "2"})
    return None


def plain(status: int, code: str, message: str) -> JsonResponse:
    """The same shape for what happens outside DRF."""
    return JsonResponse(body(code, message), status=status)


def not_found(_request: HttpRequest) -> JsonResponse:
    return plain(404, "not_found", NOTHING_HERE)
