"""Budgets as people set them; what is spent and held against them is the ledger's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils import timezone as clock

from budgets.ledger import Limit
from budgets.periods import zone_of

MAX_NANO = 9_000_000_000_000_000  # 9 million dollars: the largest sum that a Redis script counts exactly
RATES = ("requests_per_minute", "tokens_per_minute")
CHANGEABLE = ("limit_nano", "timezone", "mode", "active", "operations_may_raise", *RATES)
LONGEST_INCREASE = timedelta(days=7)


def known_zone(name: str) -> None:
    try:
        zone_of(name)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class BudgetQuerySet(models.QuerySet["Budget"]):
    def active(self) -> BudgetQuerySet:
        return self.filter(active=True)

    def of(self, *owners: tuple[str, str]) -> BudgetQuerySet:
        """The budgets of these (owner kind, owner) pairs."""
        wanted = models.Q(pk__in=[])
        for kind, owner in owners:
            wanted |= models.Q(owner_kind=kind, owner=owner)
        return self.filter(wanted)

    @transaction.atomic
    def open(self, *, actor: str, reason: str = "", **fields: Any) -> Budget:
        """A new budget, with the row that says who set it. :raises ValidationError: a rule does not hold."""
        budget = Budget(**fields)
        budget.full_clean()
        budget.save()
        after = {name: getattr(budget, name) for name in ("owner_kind", "owner", "period", *CHANGEABLE)}
        BudgetChange.objects.create(budget=budget, actor=actor, reason=reason, before={}, after=after)
        return budget


class Budget(models.Model):
    """A hard limit on what an owner may spend in a day or month of a time zone."""

    class OwnerKind(models.TextChoices):
        ORGANISATION = "organisation", "Organisation"
        AGENT = "agent", "Agent"
        CHANNEL = "channel", "Channel"
        KEY = "key", "API key"

    class Period(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    class Mode(models.TextChoices):
        STRICT = "strict", "Strict"
        BALANCED = "balanced", "Balanced"

    owner_kind = models.CharField(max_length=12, choices=OwnerKind.choices)
    owner = models.CharField(
        max_length=170, blank=True, help_text="Agent slug, agent/channel or key prefix; empty for the organisation."
    )
    period = models.CharField(max_length=5, choices=Period.choices)
    limit_nano = models.BigIntegerField()
    timezone = models.CharField(max_length=60, default="UTC", validators=[known_zone])
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.STRICT)
    active = models.BooleanField(default=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    operations_may_raise = models.BooleanField(
        default=False, help_text="Operations may grant a time-boxed increase, too, not administrators alone."
    )
    raised_nano = models.BigIntegerField(default=0, help_text="The increase of `increases` that is in force.")
    raised_until = models.DateTimeField(null=True, blank=True)

    objects = BudgetQuerySet.as_manager()

    class Meta:
        ordering = ["owner_kind", "owner", "period"]
        constraints = [
            models.UniqueConstraint(
                name="budgets_budget_once_per_period",
                fields=["owner_kind", "owner", "period"],
                violation_error_message="There is a budget of this owner for this period already: change that one.",
            ),
            models.CheckConstraint(
                name="budgets_budget_limit_sane",
                condition=models.Q(limit_nano__gte=0, limit_nano__lte=MAX_NANO),
                violation_error_message="A limit is between 0 and 9 million dollars.",
            ),
            models.CheckConstraint(
                name="budgets_budget_rates_sane",
                condition=(models.Q(requests_per_minute=None) | models.Q(requests_per_minute__gte=1))
                & (models.Q(tokens_per_minute=None) | models.Q(tokens_per_minute__gte=1)),
                violation_error_message="A rate is at least 1 a minute, or empty.",
            ),
            models.CheckConstraint(
                name="budgets_budget_owner_known",
                condition=models.Q(owner_kind__in=["organisation", "agent", "channel", "key"]),
            ),
            models.CheckConstraint(name="budgets_budget_period_known", condition=models.Q(period__in=["day", "month"])),
            models.CheckConstraint(
                name="budgets_budget_mode_known", condition=models.Q(mode__in=["strict", "balanced"])
            ),
            models.CheckConstraint(
                name="budgets_budget_organisation_has_no_owner",
                condition=models.Q(owner_kind="organisation", owner="")
                | (~models.Q(owner_kind="organisation") & ~models.Q(owner="")),
                violation_error_message="Every budget names its owner, but the organisation's, which has none.",
            ),
            models.CheckConstraint(
                name="budgets_budget_raise_has_end",
                condition=models.Q(raised_nano=0, raised_until=None)
                | models.Q(raised_nano__gt=0, raised_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.owner or 'organisation'} per {self.period}"

    def limit(self) -> Limit:
        """The form that the ledger checks on every call."""
        key = f"{self.owner_kind}:{self.owner}"
        until = self.raised_until.timestamp() if self.raised_until else 0.0
        return Limit(
            key,
            self.period,
            self.timezone,
            self.limit_nano,
            self.pk,
            requests_per_minute=self.requests_per_minute or 0,
            tokens_per_minute=self.tokens_per_minute or 0,
            balanced=self.mode == self.Mode.BALANCED,
            raised_nano=self.raise_within(),
            raised_until=until,
        )

    def raise_within(self) -> int:
        """The increase, at most a doubling even where the limit was lowered after it had been granted."""
        return max(0, min(self.raised_nano, self.limit_nano, MAX_NANO - self.limit_nano))

    def raised(self, now: datetime | None = None) -> int:
        """The increase that is in force at this moment, in nano-dollars; 0 when there is none."""
        return self.raise_within() if self.raised_until and self.raised_until > (now or clock.now()) else 0

    def limit_now(self, now: datetime | None = None) -> int:
        """The limit with the increase that is in force."""
        return self.limit_nano + self.raised(now)

    @transaction.atomic
    def increase(
        self, nano: int, until: datetime, *, actor: str, reason: str, now: datetime | None = None
    ) -> BudgetIncrease:
        """Add `nano` to the limit until then; it ends by itself. One at a time, at most a doubling, at most 7 days.

        The caller raises the configuration epoch on commit.
        :raises ValidationError: out of bounds, without a reason, or another one is in force.
        """
        now = now or clock.now()
        present = Budget.objects.select_for_update().get(pk=self.pk)
        if present.raised(now):
            raise ValidationError("An increase is in force already: end it first.")
        if not present.active:
            raise ValidationError("This budget is off: there is no limit to raise.")
        if not 0 < nano <= min(present.limit_nano, MAX_NANO - present.limit_nano):
            raise ValidationError("An increase is more than nothing and at most doubles the limit.")
        if not now < until <= now + LONGEST_INCREASE:
            raise ValidationError(f"An increase ends in the future, within {LONGEST_INCREASE.days} days.")
        if not reason.strip():
            raise ValidationError("Say why: the reason stands in the audit trail.")
        self._set_raised(nano, until)
        return BudgetIncrease.objects.create(budget=self, nano=nano, until=until, actor=actor, reason=reason.strip())

    @transaction.atomic
    def end_increase(self, *, actor: str, reason: str = "", now: datetime | None = None) -> BudgetIncrease | None:
        """End the increase that is in force; None when there is none. The caller raises the epoch on commit."""
        now = now or clock.now()
        present = Budget.objects.select_for_update().get(pk=self.pk)
        if not present.raised(now):
            return None
        self._set_raised(0, None)
        return BudgetIncrease.objects.create(budget=self, nano=0, until=now, actor=actor, reason=reason.strip())

    def _set_raised(self, nano: int, until: datetime | None) -> None:
        self.raised_nano, self.raised_until = nano, until
        self.save(update_fields=["raised_nano", "raised_until"])

    @transaction.atomic
    def change(self, *, actor: str, reason: str = "", **fields: Any) -> BudgetChange | None:
        """Set what is CHANGEABLE, and write down who did it; None when nothing differs.

        The caller raises the configuration epoch on commit. :raises ValidationError: a rule does not hold.
        """
        if foreign := set(fields) - set(CHANGEABLE):
            raise ValidationError(f"{min(foreign)} of a budget cannot be changed.")
        present = Budget.objects.select_for_update().get(pk=self.pk)
        after = {name: value for name, value in fields.items() if getattr(present, name) != value}
        if not after:
            return None
        before = {name: getattr(present, name) for name in after}
        for name, value in after.items():
            setattr(present, name, value)
        present.full_clean()
        present.save(update_fields=list(after))
        after = {name: getattr(present, name) for name in after}
        self.refresh_from_db()
        return BudgetChange.objects.create(budget=self, actor=actor, reason=reason, before=before, after=after)


class BudgetChange(models.Model):
    """Append-only: who changed a limit, from what to what, why."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="changes")
    actor = models.CharField(max_length=160)
    reason = models.TextField(blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    at = models.DateTimeField(default=clock.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(name="budgets_budgetchange_actor_named", condition=~models.Q(actor=""))]

    def __str__(self) -> str:
        return f"{self.budget}: {self.before} → {self.after}"


class BudgetIncrease(models.Model):
    """Append-only: who granted more money until when, and why; a row of nano 0 ended the one before it early."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="increases")
    nano = models.BigIntegerField()
    until = models.DateTimeField()
    actor = models.CharField(max_length=160)
    reason = models.TextField(blank=True)
    at = models.DateTimeField(default=clock.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="budgets_budgetincrease_actor_named", condition=~models.Q(actor="")),
            models.CheckConstraint(
                name="budgets_budgetincrease_has_reason", condition=models.Q(nano=0) | ~models.Q(reason="")
            ),
            models.CheckConstraint(
                name="budgets_budgetincrease_sane", condition=models.Q(nano__gte=0, nano__lte=MAX_NANO)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget}: +{self.nano} until {self.until.isoformat()}" if self.nano else f"{self.budget}: ended"


class Invoice(models.Model):
    """Append-only: a provider's invoice as somebody imported it; `lines` hold what it asks for."""

    sha256 = models.CharField(max_length=64)
    name = models.CharField(max_length=200, help_text="The file's name.")
    actor = models.CharField(max_length=160)
    starts = models.DateField()
    ends = models.DateField(help_text="The last day, included.")
    nano = models.BigIntegerField()
    at = models.DateTimeField(default=clock.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(name="budgets_invoice_once", fields=["sha256", "starts", "ends"]),
            models.CheckConstraint(name="budgets_invoice_actor_named", condition=~models.Q(actor="")),
            models.CheckConstraint(
                name="budgets_invoice_ends_after_start", condition=models.Q(ends__gte=models.F("starts"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}, {self.starts} to {self.ends}"


class InvoiceLine(models.Model):
    """Append-only: what an invoice asks for one model from the first to the last day."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    model = models.CharField(max_length=120)
    nano = models.BigIntegerField()
    starts = models.DateField()
    ends = models.DateField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.model}: {self.nano}"
