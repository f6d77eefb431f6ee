"""What requests may say: bodies and filters, checked field by field."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request

from agents import usage
from agents.models import Turn, Version
from escalations.outbox import is_public
from escalations.queue import REASON_CODES

LONGEST_DEADLINE = timedelta(days=90)
Read = TypeVar("Read", bound="serializers.Serializer[Any]")


def body(request: Request, shape: type[Read]) -> dict[str, Any]:
    """The body as the shape describes it. :raises ValidationError: with what is wrong, by field."""
    read = shape(data=request.data)
    read.is_valid(raise_exception=True)
    found: dict[str, Any] = read.validated_data
    return found


def query(request: Request, shape: type[Read]) -> dict[str, Any]:
    """The query string, without what was left out."""
    read = shape(data=request.query_params)
    read.is_valid(raise_exception=True)
    return {name: value for name, value in read.validated_data.items() if value not in ("", None)}


def optional(**kwargs: Any) -> dict[str, Any]:
    return {"required": False, "allow_blank": True, "default": "", **kwargs}


class Where(serializers.Serializer[Any]):
    """`agent` and `channel` may be left out where the key is bound to them."""

    agent = serializers.CharField(**optional(max_length=50))
    channel = serializers.CharField(**optional(max_length=110, help_text="`web`, or `support/web`."))


class TurnRequest(Where):
    case = serializers.CharField(max_length=200, help_text="Your own reference of the customer's matter.")
    message = serializers.CharField(help_text="What the customer wrote.")
    topic = serializers.CharField(**optional(max_length=50))
    language = serializers.RegexField(r"^[a-z]{2,3}(-[A-Za-z]{2,4})?$", **optional(max_length=8))
    customer = serializers.CharField(**optional(max_length=200))
    metadata = serializers.DictField(required=False, default=dict)
    callback_url = serializers.URLField(**optional(max_length=500))

    def validate_callback_url(self, url: str) -> str:
        """What can be seen from the address alone; where its name leads to is looked at before each call."""
        parts = urlsplit(url)
        if url and parts.scheme not in ("http", "https"):
            raise serializers.ValidationError("A callback is an http or https address.")
        host = parts.hostname or ""
        if url and host not in settings.CALLBACK_ALLOWED_HOSTS and _private(host):
            raise serializers.ValidationError("A callback is a public address.")
        return url


def _private(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return not is_public(host)


class DecideRequest(serializers.Serializer[Any]):
    """`token` and `revision` come from the claim."""

    kind = serializers.ChoiceField(choices=["approved", "edited", "rejected", "answered", "returned"])
    token = serializers.IntegerField(min_value=1, max_value=2**62)
    revision = serializers.IntegerField(min_value=1, max_value=2**30)
    text = serializers.CharField(**optional(max_length=20_000, trim_whitespace=False))
    arguments = serializers.JSONField(required=False, default=None)
    reason_code = serializers.ChoiceField(choices=list(REASON_CODES.values()), **optional())
    note = serializers.CharField(**optional(max_length=4_000))


class TokenRequest(serializers.Serializer[Any]):
    token = serializers.IntegerField(min_value=1, max_value=2**62)


class ActionRequest(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120)
    arguments = serializers.DictField()
    schema = serializers.DictField(
        required=False, help_text="A JSON Schema that the arguments, edited ones too, have to fit."
    )


class ApprovalRequest(Where):
    case = serializers.CharField(max_length=200)
    action = ActionRequest()
    risk = serializers.CharField(**optional(max_length=20))
    reason = serializers.CharField(**optional(max_length=1_000))
    deadline = serializers.DateTimeField(required=False, allow_null=True, default=None)
    on_timeout = serializers.ChoiceField(
        choices=["keep_waiting", "holding_message", "safe_refusal"], default="keep_waiting"
    )

    def validate_deadline(self, deadline: Any) -> Any:
        if deadline and not timezone.now() < deadline < timezone.now() + LONGEST_DEADLINE:
            raise serializers.ValidationError(f"A deadline lies within the next {LONGEST_DEADLINE.days} days.")
        return deadline


class HumanDecisionRequest(serializers.Serializer[Any]):
    """What a person really did elsewhere: `answered` with these words, or `rejected`, which sends no answer."""

    turn = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Default: the latest that waits."
    )
    kind = serializers.ChoiceField(choices=["answered", "rejected"], default="answered")
    text = serializers.CharField(**optional(max_length=20_000))
    reason_code = serializers.ChoiceField(choices=list(REASON_CODES.values()), **optional())
    actor = serializers.CharField(max_length=120, help_text="Who it was, as your system knows them.")


class VersionRequest(serializers.Serializer[Any]):
    agent = serializers.CharField(**optional(max_length=50))
    kind = serializers.ChoiceField(choices=Version.Kind.values)
    content = serializers.JSONField()
    note = serializers.CharField(**optional(max_length=1_000))


class ReleaseRequest(serializers.Serializer[Any]):
    """`parts`: version numbers by kind; a kind that is left out is taken from the agent's newest release."""

    agent = serializers.CharField(**optional(max_length=50))
    parts = serializers.DictField(child=serializers.IntegerField(min_value=1, max_value=2**30))
    note = serializers.CharField(**optional(max_length=1_000))


class DeployRequest(serializers.Serializer[Any]):
    release = serializers.CharField(max_length=70, help_text="`support@r2`, `r2` or `2`.")
    percent = serializers.IntegerField(default=100, min_value=1, max_value=100)
    reason = serializers.CharField(**optional(max_length=1_000))


class RollbackRequest(serializers.Serializer[Any]):
    """Without `to`, back to what served before."""

    to = serializers.CharField(**optional(max_length=70))
    reason = serializers.CharField(**optional(max_length=1_000))


# --- filters -----------------------------------------------------------------------------------------------------


class Filter(serializers.Serializer[Any]):
    """Fields become conditions of the same name, or of the one in `columns`."""

    columns: dict[str, str] = {}

    @classmethod
    def conditions(cls, request: Request) -> Q:
        return Q(**{cls.columns.get(name, name): value for name, value in query(request, cls).items()})


class TurnFilter(Filter):
    case = serializers.CharField(**optional(max_length=200))
    outcome = serializers.ChoiceField(choices=Turn.Outcome.values, **optional())
    columns = {"case": "case__ref"}


class CaseFilter(Filter):
    ref = serializers.CharField(**optional(max_length=200))
    customer = serializers.CharField(**optional(max_length=200))
    owner = serializers.ChoiceField(choices=["agent", "human"], **optional())


class EscalationFilter(Filter):
    state = serializers.ChoiceField(choices=["waiting", "claimed", "snoozed", "decided"], **optional())
    kind = serializers.ChoiceField(choices=["draft", "action", "case"], **optional())
    queue = serializers.CharField(**optional(max_length=50))


class VersionFilter(Filter):
    agent = serializers.CharField(**optional(max_length=50))
    kind = serializers.ChoiceField(choices=Version.Kind.values, **optional())
    columns = {"agent": "agent__slug"}


class ReleaseFilter(Filter):
    agent = serializers.CharField(**optional(max_length=50))
    columns = {"agent": "agent__slug"}


class Since(Filter):
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    columns = {"since": "at__gte", "until": "at__lt"}


class CallFilter(Since):
    model = serializers.CharField(**optional(max_length=120))
    status = serializers.CharField(**optional(max_length=12))
    purpose = serializers.CharField(**optional(max_length=10))
    scope = serializers.CharField(**optional(max_length=170))
    turn = serializers.UUIDField(required=False)
    columns = {**Since.columns, "turn": "turn_id"}


class FindingFilter(Since):
    scope = serializers.CharField(**optional(max_length=170))
    family = serializers.CharField(**optional(max_length=60))
    rule = serializers.CharField(**optional(max_length=60))
    action = serializers.ChoiceField(choices=["allow", "redact", "escalate", "block"], **optional())
    would = serializers.ChoiceField(choices=["allow", "redact", "escalate", "block"], **optional())
    turn = serializers.UUIDField(required=False)
    columns = {**Since.columns, "turn": "turn_id"}


class AuditFilter(Since):
    actor = serializers.CharField(**optional(max_length=160))
    action = serializers.CharField(**optional(max_length=60))
    object = serializers.CharField(**optional(max_length=200))


class AlertFilter(Filter):
    state = serializers.ChoiceField(choices=["pending", "firing", "acknowledged", "resolved"], **optional())
    rule = serializers.CharField(**optional(max_length=40))
    scope = serializers.CharField(**optional(max_length=170))


class AcknowledgeRequest(serializers.Serializer[Any]):
    note = serializers.CharField(**optional(max_length=2_000))


class HarmlessRequest(serializers.Serializer[Any]):
    note = serializers.CharField(**optional(max_length=300))


class ExplainRequest(serializers.Serializer[Any]):
    """What would happen to this message on this channel."""

    agent = serializers.CharField(**optional(max_length=50))
    channel = serializers.CharField(**optional(max_length=110))
    topic = serializers.CharField(**optional(max_length=50))
    case = serializers.CharField(**optional(max_length=200))
    model = serializers.CharField(default="auto", max_length=120)
    message = serializers.CharField(max_length=20_000, trim_whitespace=False)


class UsageQuery(serializers.Serializer[Any]):
    group_by = serializers.ChoiceField(choices=usage.GROUPS, default="day")
    since = serializers.DateTimeField(required=False, help_text="Default: 30 days ago. At most 92 days before `until`.")
    until = serializers.DateTimeField(required=False)
