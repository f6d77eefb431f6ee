"""Lists by cursor: a page begins after the last row of the one before, however long the list is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from console.api.errors import ApiError

DEFAULT, MOST = 50, 200
Row = TypeVar("Row", bound=Model)


class PageQuery(serializers.Serializer[Any]):
    """What every list understands."""

    limit = serializers.IntegerField(required=False, default=DEFAULT, min_value=1, max_value=MOST)
    cursor = serializers.CharField(required=False, default="", help_text="Taken from `next` of the page before.")


def page(
    request: Request,
    rows: QuerySet[Row],
    show: Callable[[Sequence[Row]], Any],
    order: Sequence[str] = ("-id",),
) -> Response:
    """`{"results": […], "next": address or null}`. `order` ends with a unique column; its columns are never null."""
    asked = PageQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    limit, cursor = asked.validated_data["limit"], asked.validated_data["cursor"]
    if cursor:
        rows = rows.filter(_after(order, _values(rows.model, order, cursor)))
    found = list(rows.order_by(*order)[: limit + 1])
    shown = found[:limit]
    following = None
    if len(found) > limit:
        following = replace_query_param(request.build_absolute_uri(), "cursor", _cursor(shown[-1], order))
    return Response({"results": show(shown), "next": following})


def _cursor(row: Model, order: Sequence[str]) -> str:
    values = [getattr(row, name.lstrip("-")) for name in order]
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def _values(model: type[Model], order: Sequence[str], cursor: str) -> list[Any]:
    try:
        said = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        fields = [model._meta.get_field(name.lstrip("-")) for name in order]  # noqa: SLF001  Django's own word for it
        found = [field.to_python(value) for field, value in zip(fields, said, strict=True)]  # type: ignore[union-attr]
    except (binascii.Error, ValueError, TypeError, ValidationError) as error:
        raise _strange() from error
    if None in found:
        raise _strange()
    return found


def _strange() -> ApiError:
    return ApiError(400, "invalid_cursor", "This cursor is not one of this list.")


def _after(order: Sequence[str], values: Sequence[Any]) -> Q:
    """The rows behind these values. The first condition repeats itself without OR, so that its index is used."""
    beyond = Q()
    for position, name in enumerate(order):
        same = Q(**{column.lstrip("-"): value for column, value in zip(order[:position], values, strict=False)})
        beyond |= same & _compare(name, values[position])
    return _compare(order[0], values[0], "e") & beyond


def _compare(name: str, value: Any, equal: str = "") -> Q:
    return Q(**{f"{name.lstrip('-')}__{'lt' if name.startswith('-') else 'gt'}{equal}": value})
