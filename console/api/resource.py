"""What every resource shares: keys with scopes, bounded bodies, the one error shape, and how it is documented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from console.api import bodies
from console.api.pages import PageQuery

Row = TypeVar("Row", bound=Model)
View = TypeVar("View", bound=Callable[..., Any])


class Resource(APIView):
    """Names the scopes that a key needs for looking and for doing."""

    read_scopes: tuple[str, ...] = ("read",)
    write_scopes: tuple[str, ...] = ()
    parser_classes = [bodies.Json]
    most_bytes = bodies.MOST_BYTES

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """A chunked body has no length, and DRF would read none of it: the parser stops at the limit."""
        if "chunked" in request.headers.get("transfer-encoding", ""):
            request.META["CONTENT_LENGTH"] = str(self.most_bytes)
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        said = request.META.get("CONTENT_LENGTH") or ""
        if said.isdecimal() and int(said) > self.most_bytes:
            raise bodies.too_large(self.most_bytes)


def one(rows: QuerySet[Row], **lookup: object) -> Row:
    """The row, or 404."""
    row = rows.filter(**lookup).first()
    if row is None:
        raise Http404
    return row


# --- documentation -------------------------------------------------------------------------------------------------


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "console.api.auth.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "description": "An API key, `ph_…`."}


class ErrorDetail(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs: not_found, invalid, conflict, …")
    message = serializers.CharField(help_text="For people.")
    details = serializers.DictField(help_text="By field where a field is wrong; the decision where one was taken.")


class Error(serializers.Serializer[Any]):
    error = ErrorDetail()


IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="The same key with the same body gets the same answer for a day; with another body a 409.",
)
PREFER = OpenApiParameter(
    "Prefer",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="`wait=20`: wait up to so many seconds, at most 30.",
)
WAIT = OpenApiParameter("wait", OpenApiTypes.INT, OpenApiParameter.QUERY, description="Seconds to wait, at most 30.")


def documented(
    answers: Any,
    *,
    asks: Any = None,
    status: int | Sequence[int] = 200,
    parameters: Sequence[Any] = (),
    errors: Sequence[int] = (),
    tag: str,
    name: str | None = None,
) -> Callable[[View], View]:
    """An operation of the schema; 401, 403 and 404 are always possible."""
    statuses = (status,) if isinstance(status, int) else status
    failures = (401, 403, 404, *([400] if asks or parameters else []), *errors)
    decorate: Callable[[View], View] = extend_schema(
        request=asks,
        responses={**dict.fromkeys(statuses, answers), **dict.fromkeys(sorted(failures), Error)},
        parameters=list(parameters),
        tags=[tag],
        operation_id=name,
    )
    return decorate


def listed(shape: type[serializers.BaseSerializer[Any]], *, tag: str, filters: Any = None) -> Callable[[View], View]:
    """An operation that answers with a page."""
    name = shape.__name__.removesuffix("Serializer")
    fields: dict[str, Any] = {"results": shape(many=True), "next": serializers.URLField(allow_null=True)}
    parameters = [PageQuery, *([filters] if filters else [])]
    answers = inline_serializer(f"{name}Page", fields)
    return documented(answers, parameters=parameters, tag=tag, name=f"list_{name.removeprefix('Whole').lower()}")
