"""The settings' forms."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from django import forms
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from agents.models import Agent, Channel
from agents.models.agent import slug as slug_form
from budgets import invoices
from budgets.models import LONGEST_INCREASE, MAX_NANO, RATES, Budget
from budgets.periods import window
from console.models import Membership

if TYPE_CHECKING:  # Django's own forms are not generic at run time
    from typing import TypeAlias

    OfAgent: TypeAlias = forms.ModelForm[Agent]
    OfChannel: TypeAlias = forms.ModelForm[Channel]
    OfBudget: TypeAlias = forms.ModelForm[Budget]
else:
    OfAgent = OfChannel = OfBudget = forms.ModelForm

NANO = 1_000_000_000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE = "model,amount\ngpt-4o-mini,12.34"
LIFETIMES = (("", _("Never")), ("30", _("In 30 days")), ("90", _("In 90 days")), ("365", _("In a year")))
SCOPES = {
    "turns": _("Send messages (REST)"),
    "gateway": _("Use the gateway (/v1)"),
    "review": _("Decide escalations"),
    "releases": _("Publish, deploy, roll back"),
    "read": _("Read everything it reaches"),
}


class AgentForm(OfAgent):
    languages = forms.CharField(
        label=_("Languages"), initial="en", help_text=_("Codes, separated by commas: en, pl, de")
    )

    class Meta:
        model = Agent
        fields = ("slug", "name", "languages")
        help_texts = {
            "slug": _("Lower-case letters, digits and hyphens; it stands in every address and cannot be changed.")
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was_new = self.instance.pk is None
        if self.instance.pk:
            del self.fields["slug"]
            self.initial["languages"] = ", ".join(self.instance.languages)

    def clean_languages(self) -> list[str]:
        codes = [code.strip().lower() for code in self.cleaned_data["languages"].split(",") if code.strip()]
        if not codes or any(not code.isalpha() or not 2 <= len(code) <= 3 for code in codes):
            raise ValidationError(_("Give language codes of two or three letters, e.g. en, pl, de."))
        return list(dict.fromkeys(codes))


class ChannelForm(OfChannel):
    class Meta:
        model = Channel
        fields = (
            "slug",
            "name",
            "kind",
            "timezone",
            "sla_first_response_s",
            "sla_next_response_s",
            "sla_review_s",
            "sla_resolution_s",
            "keep_bodies_days",
        )
        labels = {
            "keep_bodies_days": _("Keep questions and answers of model calls for days"),
            "timezone": _("Time zone"),
            "sla_first_response_s": _("First response within"),
            "sla_next_response_s": _("Next response within"),
            "sla_review_s": _("Review within"),
            "sla_resolution_s": _("Resolved within"),
        }
        help_texts = {
            name: _("Seconds of business time.")
            for name in ("sla_first_response_s", "sla_next_response_s", "sla_review_s", "sla_resolution_s")
        } | {"keep_bodies_days": _("0: not at all. They are kept as the guardrails left them.")}

    hours = forms.CharField(
        label=_("Business hours"),
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
        required=False,
        help_text=_("One line a day: mon 09:00-12:00 13:00-17:00. Days left out are closed."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was_new = self.instance.pk is None
        self.fields["keep_bodies_days"].required = False
        if self.instance.pk:
            del self.fields["slug"]
        hours = self.instance.business_hours or {}
        self.initial["hours"] = "\n".join(
            f"{day} {' '.join('-'.join(span) for span in hours[day])}" for day in DAYS if hours.get(day)
        )

    def clean_timezone(self) -> str:
        name = str(self.cleaned_data["timezone"])
        if name not in available_timezones():
            raise ValidationError(_("There is no time zone of this name; an example is Europe/Warsaw."))
        return name

    def clean_keep_bodies_days(self) -> int:
        return self.cleaned_data.get("keep_bodies_days") or 0

    def clean_hours(self) -> dict[str, list[list[str]]]:
        return dict(map(_day, filter(None, map(str.strip, self.cleaned_data["hours"].splitlines()))))

    def save(self, commit: bool = True) -> Channel:
        self.instance.business_hours = self.cleaned_data["hours"]
        saved: Channel = super().save(commit)
        return saved


def _day(line: str) -> tuple[str, list[list[str]]]:
    """`mon 09:00-12:00 13:00-17:00` as ("mon", [["09:00", "12:00"], ["13:00", "17:00"]])."""
    day, *spans = line.lower().split()
    found = [span.split("-") for span in spans]
    for span in found:
        if day not in DAYS or len(span) != 2 or not all(_is_time(at) for at in span) or span[0] >= span[1]:
            raise ValidationError(_("“%(line)s” is not like: mon 09:00-17:00"), params={"line": line})
    if day not in DAYS or not found:
        raise ValidationError(_("“%(line)s” is not like: mon 09:00-17:00"), params={"line": line})
    return day, found


def _is_time(at: str) -> bool:
    hour, _sep, minute = at.partition(":")
    return (
        len(at) == 5
        and hour.isdecimal()
        and minute.isdecimal()
        and (int(hour) < 24 or at == "24:00")
        and int(minute) < 60
    )


class ScopeForm(forms.Form):
    channel = forms.ModelChoiceField(queryset=Channel.objects.none(), label=_("Channel"))
    topic = forms.CharField(max_length=50, validators=[slug_form], label=_("Topic"), help_text=_("e.g. billing"))


class KeyForm(forms.Form):
    name = forms.CharField(
        max_length=120, label=_("Name"), help_text=_("Who or what uses it, e.g. Web shop, production.")
    )
    channel = forms.ModelChoiceField(queryset=Channel.objects.none(), required=False, label=_("Channel"))
    agent = forms.ModelChoiceField(queryset=Agent.objects.none(), required=False, label=_("Agent"))
    scopes = forms.MultipleChoiceField(
        choices=list(SCOPES.items()),
        widget=forms.CheckboxSelectMultiple,
        label=_("It may"),
        initial=["turns", "gateway"],
    )
    tester = forms.BooleanField(
        required=False,
        label=_("A tester's key"),
        help_text=_("Its turns are tests: answered in pilot, counted nowhere."),
    )
    lifetime = forms.ChoiceField(choices=LIFETIMES, required=False, label=_("Expires"))

    def __init__(self, *args: Any, agents: Any, channels: Any, bound: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"] = forms.ModelChoiceField(
            agents, required=bound, label=_("Agent"), empty_label=None if bound else str(_("All agents"))
        )
        self.fields["channel"] = forms.ModelChoiceField(
            channels, required=False, label=_("Channel"), empty_label=str(_("All channels"))
        )
        self.order_fields(["name", "agent", "channel", "scopes", "tester", "lifetime"])

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        channel, agent = found.get("channel"), found.get("agent")
        if channel and channel.agent != agent:
            self.add_error("channel", _("This channel belongs to another agent."))
        return found


class PersonForm(forms.Form):
    username = forms.SlugField(
        max_length=150, label=_("User name"), help_text=_("An existing name gets the role as well.")
    )
    password = forms.CharField(
        required=False,
        label=_("Password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 10 characters. Empty: the present password stays."),
    )
    role = forms.ChoiceField(choices=Membership.Role.choices, label=_("Role"))
    agent = forms.ModelChoiceField(
        queryset=Agent.objects.all(), required=False, label=_("For"), empty_label=str(_("All agents"))
    )

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        known = User.objects.filter(username=found.get("username")).first()
        if known and known.is_superuser:
            self.add_error(
                "username",
                _("This person administers the installation already; the password is changed on the command line."),
            )
        if not known and not found.get("password"):
            self.add_error("password", _("A new person needs a password."))
        if found.get("password"):
            try:
                validate_password(found["password"], known or User(username=found.get("username", "")))
            except ValidationError as error:
                self.add_error("password", error)
        return found


class BudgetForm(OfBudget):
    limit = forms.DecimalField(
        label=_("Limit in US dollars"),
        min_value=Decimal(0),
        max_value=Decimal(MAX_NANO) / NANO,
        decimal_places=9,
        max_digits=19,
    )
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)

    class Meta:
        model = Budget
        fields = ("owner_kind", "owner", "period", "timezone", "mode", "active", *RATES, "operations_may_raise")
        labels = {
            "requests_per_minute": _("Requests a minute"),
            "tokens_per_minute": _("Tokens a minute"),
            "owner_kind": _("Of"),
            "owner": _("Which"),
            "mode": _("Near the limit"),
            "active": _("In force"),
            "timezone": _("Time zone"),
            "operations_may_raise": _("Operations may raise it for a while"),
        }
        help_texts = {
            "operations_may_raise": _("At most a doubling, at most 7 days, with a reason. Administrators always may.")
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for name in ("owner_kind", "owner", "period", "timezone"):
                del self.fields[name]
            self.initial["limit"] = (Decimal(self.instance.limit_nano) / NANO).normalize()
        self.fields["mode"].help_text = _(
            "Strict holds the most that a call can cost: the limit is never passed. Balanced, where every budget of a "
            "call is so, holds what such calls usually cost: more fits in, one call in a hundred may overshoot."
        )
        self.fields["requests_per_minute"].help_text = self.fields["tokens_per_minute"].help_text = _("Empty: any.")
        first = ["owner_kind", "owner", "period", "timezone", "limit", "mode", *RATES, "active", "operations_may_raise"]
        self.order_fields([*first, "reason"])

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if "limit" in found:
            self.instance.limit_nano = found["limit_nano"] = int(found["limit"] * NANO)
        return found


class IncreaseForm(forms.Form):
    """More money until a moment: how much, until when, why."""

    UNTIL = (("window", _("the window ends")), ("1", _("in 1 hour")), ("4", _("in 4 hours")), ("24", _("in a day")),
             ("72", _("in 3 days")), ("168", _("in 7 days")))  # fmt: skip

    amount = forms.DecimalField(label=_("More by, in US dollars"), decimal_places=9, max_digits=19)
    until = forms.ChoiceField(choices=UNTIL, label=_("Until"))
    reason = forms.CharField(label=_("Why"), max_length=500, help_text=_("It stands in the audit trail."))

    def __init__(self, *args: Any, budget: Budget, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget = budget
        most = (Decimal(budget.limit_nano) / NANO).normalize()
        self.fields["amount"] = forms.DecimalField(
            label=_("More by, in US dollars"),
            min_value=Decimal(1) / NANO,
            max_value=most,
            decimal_places=9,
            max_digits=19,
            initial=f"{(most / 4).quantize(Decimal(1) / NANO).normalize():f}",
            help_text=_("At most the limit itself: $%(limit)s.") % {"limit": f"{most:f}"},
        )
        self.order_fields(["amount", "until", "reason"])

    def moment(self, now: datetime) -> datetime:
        """When the increase ends."""
        hours = self.cleaned_data["until"]
        if hours == "window":
            ends = window(self.budget.period, self.budget.timezone, now).ends
            return min(ends, now + LONGEST_INCREASE)
        return now + timedelta(hours=int(hours))


class InvoiceForm(forms.Form):
    """A provider's invoice: a file or pasted lines, and the days of lines that name none."""

    file = forms.FileField(
        required=False,
        max_length=200,
        label=_("File"),
        help_text=_(
            "CSV with the columns model and amount, in US dollars; day, or from and to, if there are any. At most 1 MB."
        ),
    )
    text = forms.CharField(
        required=False,
        strip=False,
        max_length=invoices.MOST_BYTES,
        label=_("Or its lines"),
        widget=forms.Textarea(
            attrs={"rows": 5, "spellcheck": "false", "placeholder": "model,amount\ngpt-4o-mini,12.34"}
        ),
    )
    starts = forms.DateField(required=False, label=_("From"), widget=forms.DateInput(attrs={"type": "date"}))
    ends = forms.DateField(
        required=False,
        label=_("To, this day included"),
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("For lines that name no days. Days are UTC, as on providers' invoices."),
    )

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if self.errors:
            return found
        file = found.get("file")
        if bool(file) == bool(found.get("text", "").strip()):
            raise ValidationError(_("Give a file or paste its lines, one of the two."))
        found["name"] = file.name.replace("\x00", "")[:200] if file else str(_("pasted"))
        found["content"] = _decoded(file) if file else found["text"]
        try:
            found["lines"] = invoices.read(found["content"], found.get("starts"), found.get("ends"))
        except invoices.Unreadable as error:
            raise ValidationError(str(error)) from error
        return found


def _decoded(file: Any) -> str:
    if file.size > invoices.MOST_BYTES:
        raise ValidationError(_("The file is larger than 1 MB: split it."))
    try:
        return str(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValidationError(_("This is not a text file in UTF-8.")) from error
