"""Bearer keys on the REST door."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from console.models import ApiKey

if TYPE_CHECKING:
    from rest_framework.views import APIView

SEEN_EVERY = timedelta(minutes=1)


def key_for(authorization: str) -> ApiKey | None:
    """The usable key of an `Authorization` header; None where it is unknown, expired or revoked."""
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    found = ApiKey.objects.select_related("agent", "channel__agent").filter(sha256=ApiKey.digest(secret.strip()))
    key = found.first()
    return key if key and key.usable() else None


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ph_…`; `request.auth` is the key, nobody is the user."""

    def authenticate(self, request: Request) -> tuple[None, ApiKey] | None:
        header = request.headers.get("authorization", "")
        if not header:
            return None
        key = key_for(header)
        if key is None:
            raise AuthenticationFailed
        now = timezone.now()
        if key.last_used_at is None or now - key.last_used_at > SEEN_EVERY:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
        return None, key

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        return "Bearer"


class HasKey(BasePermission):
    """The key carries one of the scopes that the view names: `read_scopes` for looking, `write_scopes` for the rest."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        key = request.auth
        if not isinstance(key, ApiKey):
            return False
        kind = "read_scopes" if request.method in SAFE_METHODS else "write_scopes"
        needed: tuple[str, ...] = getattr(view, kind, ())
        if needed and not set(needed) & set(key.scopes):
            raise PermissionDenied(f"This key lacks the scope {' or '.join(needed)}.")
        return True


def key_of(request: Request) -> ApiKey:
    assert isinstance(request.auth, ApiKey)
    return request.auth


def actor_of(request: Request) -> str:
    """How what a key did is written down."""
    return f"key:{key_of(request).prefix}"
