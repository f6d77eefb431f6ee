"""What a policy keeps out of what is stored, for review desks of one's own."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents import private
from agents.models import PrivateValue
from console import access, audit
from console.api.auth import actor_of, key_of
from console.api.errors import ApiError
from console.api.resource import Resource, documented


class RevealedSerializer(serializers.Serializer[PrivateValue]):
    token = serializers.CharField()
    kind = serializers.CharField()
    value = serializers.CharField()


class Reveal(Resource):
    write_scopes = ("review",)

    @documented(RevealedSerializer, errors=(409,), tag="cases")
    def post(self, request: Request, token: str) -> Response:
        """What a token such as `[email:kdfjabpcaeghmnop]` stands for; the audit trail says who asked."""
        try:
            found, value = private.reveal(token, access.key_cases(key_of(request)))
        except PrivateValue.DoesNotExist:
            raise Http404 from None
        except private.Unopened as error:
            raise ApiError(409, "conflict", str(error)) from error
        audit.revealed(actor_of(request), found)
        said = {"token": found.token, "kind": found.kind, "value": value}
        return Response(said, headers={"Cache-Control": "no-store"})
