"""Rows as JSON. Money is a decimal string of US dollars, times are UTC, a draft is shown only to those who review."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents.models import Agent, Call, Case, Channel, Deployment, Release, Scope, Turn, Version
from agents.releases import target_among
from budgets.ledger import Balance
from budgets.models import Budget
from console.models import Alert, AlertChange, ApiKey, AuditEntry
from console.money import money
from escalations.models import Decision, Delivery, Escalation
from guardrails.models import FalsePositive, Finding

SPOKEN = frozenset({Turn.Outcome.ANSWERED, Turn.Outcome.CLARIFIED, Turn.Outcome.REFUSED})
ON_ITS_WAY = frozenset({Delivery.State.SENT, Delivery.State.DELIVERED, Delivery.State.ACKNOWLEDGED})


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.000123000", "nullable": True})
class Money(serializers.Field[int, Any, str, Any]):
    """Nano-dollars as "0.000123000"; null where the price is unknown."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: int) -> str:
        return money(value)


class TurnSerializer(serializers.ModelSerializer[Turn]):
    """What became of a message. Of what the agent made, only what the customer may see leaves (invariant 7)."""

    case = serializers.CharField(source="case.ref")
    agent = serializers.CharField(source="scope.agent.slug")
    scope = serializers.CharField(source="scope.name")
    outcome = serializers.CharField(help_text="pending, answered, clarified, escalated, refused, withheld or failed")
    release = serializers.SerializerMethodField()
    escalation = serializers.UUIDField(source="escalation_id", allow_null=True)
    cost_usd = Money(source="cost_nano")

    class Meta:
        model = Turn
        fields = [
            "id", "case", "agent", "scope", "number", "message", "language", "outcome", "reply", "reply_by", "reason",
            "escalation", "confidence", "release", "cost_usd", "citations", "findings", "trace", "created_at",
            "finished_at",
        ]  # fmt: skip

    def get_release(self, turn: Turn) -> str | None:
        return str(turn.release) if turn.release else None

    def to_representation(self, turn: Turn) -> dict[str, Any]:
        """A draft that did not go out leaves nothing of itself: no citations, no passages, nothing seen in it."""
        shown = super().to_representation(turn)
        if turn.outcome not in SPOKEN:
            shown["citations"] = []
            shown["findings"] = [finding for finding in turn.findings if finding.get("stage") == "inbound"]
            shown["trace"] = [_without_sources(step) for step in turn.trace]
        if turn.outcome == Turn.Outcome.WITHHELD:
            shown |= {"trace": [], "confidence": None}
        return shown


def _without_sources(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "detail": {name: value for name, value in step["detail"].items() if name != "sources"}}


class CaseSerializer(serializers.ModelSerializer[Case]):
    channel = serializers.CharField(source="channel.__str__")
    owner = serializers.CharField(help_text="agent or human")

    class Meta:
        model = Case
        fields = [
            "id", "ref", "channel", "customer", "language", "owner", "owner_epoch", "opened_at", "last_turn_at",
            "closed_at",
        ]  # fmt: skip


class WholeCaseSerializer(CaseSerializer):
    """A case with its latest turns, oldest first, and what all of its turns cost."""

    cost_usd = Money(source="cost")
    turns = TurnSerializer(many=True, source="latest")

    class Meta(CaseSerializer.Meta):
        fields = [*CaseSerializer.Meta.fields, "cost_usd", "turns"]


class DecisionSerializer(serializers.ModelSerializer[Decision]):
    """What was decided, and how far it has come: held (it can still be undone), sent, delivered, acknowledged, …"""

    kind = serializers.CharField()
    delivery = serializers.CharField(source="delivery.state", default=None)

    class Meta:
        model = Decision
        fields = [
            "id", "escalation", "revision", "kind", "actor", "text", "arguments", "action_hash", "reason_code", "note",
            "at", "delivery",
        ]  # fmt: skip


class EscalationSerializer(serializers.ModelSerializer[Escalation]):
    """Something that waits for a person. With `reviewer` in the context, the draft and its evidence are shown."""

    kind = serializers.CharField(help_text="draft, action or case")
    state = serializers.CharField(help_text="waiting, claimed, snoozed or decided")
    on_timeout = serializers.CharField()
    claimed_by = serializers.SerializerMethodField()
    decision = serializers.SerializerMethodField()

    class Meta:
        model = Escalation
        fields = [
            "id", "kind", "agent", "channel", "scope", "case_id", "turn_id", "ref", "edge", "reason", "priority",
            "queue", "skill", "risk", "blind", "language", "customer_line", "draft", "action", "evidence", "state",
            "revision", "claimed_by", "lease_until", "deadline", "on_timeout", "created_at", "decided_at", "decision",
        ]  # fmt: skip

    def get_claimed_by(self, escalation: Escalation) -> str | None:
        return escalation.claimed_by.get_username() if escalation.claimed_by else None

    @extend_schema_field(DecisionSerializer(allow_null=True))
    def get_decision(self, escalation: Escalation) -> dict[str, Any] | None:
        standing = standing_of(escalation)
        return dict(DecisionSerializer(standing).data) if standing else None

    def to_representation(self, escalation: Escalation) -> dict[str, Any]:
        shown = super().to_representation(escalation)
        undecided = escalation.state != Escalation.State.DECIDED
        if not self.context.get("reviewer") or (escalation.blind and undecided):
            kept = ("history", "history_after")
            evidence = {name: escalation.evidence[name] for name in kept if name in escalation.evidence}
            shown |= {"draft": "", "evidence": evidence}
        return shown


def standing_of(escalation: Escalation) -> Decision | None:
    """The decision that stands, out of prefetched `decisions` (with `undo` and `delivery`) where there are any."""
    if escalation.state != Escalation.State.DECIDED:
        return None
    if "decisions" not in getattr(escalation, "_prefetched_objects_cache", {}):
        return escalation.standing()
    found = (row for row in escalation.decisions.all() if row.revision == escalation.revision)
    return next((row for row in found if not hasattr(row, "undo")), None)


class ClaimSerializer(serializers.Serializer[Any]):
    """A lease on an escalation: decide with its token and revision before it ends."""

    escalation = EscalationSerializer()
    token = serializers.IntegerField()
    revision = serializers.IntegerField()
    lease_until = serializers.DateTimeField()


class ApprovalSerializer(serializers.ModelSerializer[Escalation]):
    """A proposed action. `state` stays `waiting` until the decision cannot be taken back any more."""

    case = serializers.CharField(source="ref")
    state = serializers.SerializerMethodField(
        help_text="waiting, approved, edited, rejected, returned, withdrawn or expired"
    )
    decision = serializers.SerializerMethodField()
    on_timeout = serializers.CharField()

    class Meta:
        model = Escalation
        fields = [
            "id", "agent", "channel", "case", "action", "risk", "reason", "deadline", "on_timeout", "state",
            "created_at", "decision",
        ]  # fmt: skip

    def get_state(self, escalation: Escalation) -> str:
        decision = final_decision(escalation)
        return decision.kind.removesuffix("_no_response") if decision else "waiting"

    @extend_schema_field(DecisionSerializer(allow_null=True))
    def get_decision(self, escalation: Escalation) -> dict[str, Any] | None:
        decision = final_decision(escalation)
        return dict(DecisionSerializer(decision).data) if decision else None


def final_decision(escalation: Escalation) -> Decision | None:
    """The decision that stands, once it has left and can be acted on."""
    decision = standing_of(escalation)
    return decision if decision and decision.delivery.state in ON_ITS_WAY else None


class VersionSerializer(serializers.ModelSerializer[Version]):
    agent = serializers.CharField(source="agent.slug")
    kind = serializers.CharField(help_text="prompt, knowledge, models, guardrails or edges")

    class Meta:
        model = Version
        fields = ["id", "agent", "kind", "number", "sha256", "author", "note", "created_at"]


class WholeVersionSerializer(VersionSerializer):
    class Meta(VersionSerializer.Meta):
        fields = [*VersionSerializer.Meta.fields, "content"]


class ReleaseSerializer(serializers.ModelSerializer[Release]):
    agent = serializers.CharField(source="agent.slug")
    name = serializers.CharField(source="__str__")
    parts = serializers.SerializerMethodField()

    class Meta:
        model = Release
        fields = ["id", "agent", "number", "name", "sha256", "author", "note", "created_at", "parts"]

    def get_parts(self, release: Release) -> dict[str, int]:
        return {part: version.number for part, version in release.parts().items()}


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    release = serializers.CharField(source="release.__str__")
    scope = serializers.CharField(source="scope.name")
    kind = serializers.CharField(help_text="deploy, canary, promote, rollback or automatic_rollback")

    class Meta:
        model = Deployment
        fields = ["id", "scope", "release", "percent", "kind", "actor", "reason", "at"]


class ScopeSerializer(serializers.ModelSerializer[Scope]):
    stage = serializers.CharField(help_text="pilot, shadow, narrow or expanded")

    class Meta:
        model = Scope
        fields = ["id", "name", "topic", "stage"]


class WholeScopeSerializer(ScopeSerializer):
    """A scope with what serves there now: `live` may be a canary, `stable` serves everybody else.

    Its `deployments` are prefetched, newest first, with their releases.
    """

    live = serializers.SerializerMethodField()
    stable = serializers.SerializerMethodField()
    rollback_to = serializers.SerializerMethodField()

    class Meta(ScopeSerializer.Meta):
        fields = [*ScopeSerializer.Meta.fields, "live", "stable", "rollback_to"]

    @extend_schema_field(DeploymentSerializer(allow_null=True))
    def get_live(self, scope: Scope) -> dict[str, Any] | None:
        return next((dict(DeploymentSerializer(row).data) for row in scope.deployments.all()), None)

    def get_stable(self, scope: Scope) -> str | None:
        return next((str(row.release) for row in scope.deployments.all() if row.percent == 100), None)

    def get_rollback_to(self, scope: Scope) -> str | None:
        target = target_among(list(scope.deployments.all()))
        return str(target) if target else None


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    name = serializers.CharField(source="__str__")
    kind = serializers.CharField(help_text="chat, email, voice or internal")
    scopes = ScopeSerializer(many=True)

    class Meta:
        model = Channel
        fields = ["id", "name", "kind", "timezone", "scopes"]


class AgentSerializer(serializers.ModelSerializer[Agent]):
    channels = serializers.SerializerMethodField()

    class Meta:
        model = Agent
        fields = ["id", "slug", "name", "languages", "paused_at", "channels"]

    @extend_schema_field(ChannelSerializer(many=True))
    def get_channels(self, agent: Agent) -> Any:
        """Those that the key reaches."""
        return ChannelSerializer(getattr(agent, "reached", []), many=True).data


class BudgetSerializer(serializers.ModelSerializer[Budget]):
    """A limit with what its present window has spent and held, read from the ledger."""

    owner_kind = serializers.CharField(help_text="organisation, agent, channel or key")
    period = serializers.CharField(help_text="day or month")
    mode = serializers.CharField(help_text="strict or balanced")
    limit_usd = Money(source="limit_nano")
    spent_usd = serializers.SerializerMethodField()
    held_usd = serializers.SerializerMethodField()
    resets_at = serializers.SerializerMethodField()

    class Meta:
        model = Budget
        fields = [
            "id", "owner_kind", "owner", "period", "timezone", "mode", "active", "limit_usd", "spent_usd", "held_usd",
            "resets_at",
        ]  # fmt: skip

    def _balance(self, budget: Budget) -> Balance:
        balance: Balance = self.context["balances"][budget.limit()]
        return balance

    def get_spent_usd(self, budget: Budget) -> str:
        return money(self._balance(budget).spent_nano)

    def get_held_usd(self, budget: Budget) -> str:
        return money(self._balance(budget).held_nano)

    @extend_schema_field({"type": "string", "format": "date-time"})
    def get_resets_at(self, budget: Budget) -> str:
        return f"{self._balance(budget).resets_at:%Y-%m-%dT%H:%M:%SZ}"


class CallSerializer(serializers.ModelSerializer[Call]):
    cost_usd = Money(source="cost_nano")

    class Meta:
        model = Call
        exclude = ["id", "cost_nano"]


class UsageSerializer(serializers.Serializer[Any]):
    """Sums over the calls of one group. Calls without a known price are counted in `unpriced`, not in `cost_usd`."""

    group = serializers.CharField()
    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = Money(source="cost_nano")
    saved_usd = Money(source="saved_nano", help_text="By the router, against its largest tier for everything.")
    unpriced = serializers.IntegerField()
    estimated = serializers.IntegerField()


class HopSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(source="model.name")
    most_usd = Money(source="most_nano", help_text="What would be held.")
    left_alone_s = serializers.FloatField(allow_null=True, help_text="Its breaker is open for so long.")


class RoomSerializer(serializers.Serializer[Any]):
    budget = serializers.CharField(source="key")
    period = serializers.CharField()
    limit_usd = Money(source="limit_nano")
    spent_usd = Money(source="spent_nano")
    held_usd = Money(source="held_nano")
    fits = serializers.BooleanField()


class ExplanationSerializer(serializers.Serializer[Any]):
    """What would happen to a message. Nothing was sent, held or written down."""

    outcome = serializers.CharField(help_text="sent, guardrail, budget or provider: what would stop it")
    release = serializers.CharField()
    facts = serializers.DictField()
    guardrail = serializers.CharField(source="inbound.action")
    rules = serializers.SerializerMethodField()
    tier = serializers.CharField(source="choice.tier")
    rule = serializers.CharField(source="choice.rule")
    degraded_to = serializers.CharField(source="degraded.tier", default="")
    others = serializers.DictField()
    chain = HopSerializer(source="hops", many=True)
    budgets = RoomSerializer(many=True)

    def get_rules(self, found: Any) -> list[str]:
        return [seen.rule for seen in found.inbound.findings]


class HarmlessSerializer(serializers.ModelSerializer[FalsePositive]):
    class Meta:
        model = FalsePositive
        fields = ["at", "actor", "note"]


class FindingSerializer(serializers.ModelSerializer[Finding]):
    """`would` differs from `action` where the rule only logs, or where its words are allowed for a while."""

    stage = serializers.CharField(help_text="inbound, outbound, passage or tool")
    action = serializers.CharField(help_text="allow, redact, escalate or block")
    would = serializers.CharField(help_text="What the rule does where it is enforced.")
    harmless = HarmlessSerializer(
        source="false_positive", default=None, read_only=True, help_text="Who called it harmless; null: nobody."
    )
    severity = serializers.CharField(help_text="info, low, medium, high or critical")

    class Meta:
        model = Finding
        fields = "__all__"


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = "__all__"


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """A rule's state at a scope, a budget's owner or (empty) the installation, with the release that was live."""

    state = serializers.CharField(help_text="pending, firing, acknowledged or resolved")
    severity = serializers.CharField(help_text="critical, high or medium")
    release = serializers.CharField(source="deployment.release.__str__", default=None)
    release_changed_at = serializers.DateTimeField(
        source="changed_at", read_only=True, help_text="Where it was deployed within the hour before; else null."
    )
    rolled_back_to = serializers.CharField(
        source="rollback.release.__str__", default=None, help_text="Where the rule took the release back by itself."
    )

    class Meta:
        model = Alert
        fields = [
            "id", "rule", "scope", "agent", "severity", "state", "sentence", "figures", "release",
            "release_changed_at", "rolled_back_to", "opened_at", "fired_at", "acknowledged_at", "acknowledged_by",
            "resolved_at", "resolved_by",
        ]  # fmt: skip


class AlertChangeSerializer(serializers.ModelSerializer[AlertChange]):
    class Meta:
        model = AlertChange
        fields = ["id", "from_state", "to_state", "actor", "note", "at"]


class WholeAlertSerializer(AlertSerializer):
    """An alert with what became of it, newest first."""

    changes = AlertChangeSerializer(many=True)

    class Meta(AlertSerializer.Meta):
        fields = [*AlertSerializer.Meta.fields, "changes"]


class KeySerializer(serializers.ModelSerializer[ApiKey]):
    """The key itself. `callback_secret` signs the callbacks that its turns ask for."""

    agent = serializers.CharField(source="agent.slug", default=None)
    channel = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ["prefix", "name", "agent", "channel", "scopes", "tester", "expires_at", "callback_secret"]

    def get_channel(self, key: ApiKey) -> str | None:
        return str(key.channel) if key.channel else None
