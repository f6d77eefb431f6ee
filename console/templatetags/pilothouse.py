"""The small marks of every screen, each once: icon, status, money, duration, time, actor, bar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from agents.private import TOKEN
from budgets.periods import zone_of

register = template.Library()

DOLLAR = 1_000_000_000
LADDER_STEPS = (70, 85, 95)  # percent of a budget: alert, cheaper tier, review
# name → (tone, icon, word): colour never says it alone.
STATUS: dict[str, tuple[str, str, Any]] = {
    "pending": ("neutral", "clock", gettext_lazy("Working")),
    "answered": ("good", "check", gettext_lazy("Answered")),
    "clarified": ("accent", "question", gettext_lazy("Asked back")),
    "escalated": ("people", "person", gettext_lazy("Escalated")),
    "refused": ("bad", "block", gettext_lazy("Refused")),
    "withheld": ("neutral", "hidden", gettext_lazy("Withheld")),
    "failed": ("bad", "cross", gettext_lazy("Failed")),
    "waiting": ("people", "clock", gettext_lazy("Waiting")),
    "claimed": ("accent", "person", gettext_lazy("Claimed")),
    "snoozed": ("neutral", "clock", gettext_lazy("Snoozed")),
    "decided": ("good", "check", gettext_lazy("Decided")),
    "approved": ("good", "check", gettext_lazy("Approved")),
    "edited": ("good", "edit", gettext_lazy("Edited")),
    "rejected": ("bad", "cross", gettext_lazy("Rejected")),
    "returned": ("attention", "back", gettext_lazy("Returned to the agent")),
    "expired_no_response": ("attention", "clock", gettext_lazy("Expired without response")),
    "withdrawn": ("neutral", "back", gettext_lazy("Withdrawn")),
    "held": ("attention", "clock", gettext_lazy("Held")),
    "sent": ("good", "send", gettext_lazy("Sent")),
    "delivered": ("good", "check", gettext_lazy("Delivered")),
    "acknowledged": ("good", "check", gettext_lazy("Acknowledged")),
    "cancelled": ("neutral", "back", gettext_lazy("Undone")),
    "dead": ("bad", "cross", gettext_lazy("Not deliverable")),
    "allow": ("neutral", "check", gettext_lazy("Seen only")),
    "redact": ("attention", "edit", gettext_lazy("Redacted")),
    "block": ("bad", "block", gettext_lazy("Blocked")),
    "escalate": ("people", "person", gettext_lazy("To a person")),
    "through": ("neutral", "check", gettext_lazy("Goes on")),
    "ask": ("attention", "question", gettext_lazy("Judge asked")),
    "run-waiting": ("neutral", "clock", gettext_lazy("Waiting")),
    "run-running": ("accent", "clock", gettext_lazy("Running")),
    "run-done": ("good", "check", gettext_lazy("Done")),
    "run-failed": ("bad", "cross", gettext_lazy("Failed")),
    "run-cancelled": ("neutral", "back", gettext_lazy("Cancelled")),
    "passed": ("neutral", "check", gettext_lazy("Passed")),
    "redacted": ("attention", "edit", gettext_lazy("Redacted")),
    "blocked": ("bad", "block", gettext_lazy("Blocked")),
    "ok": ("good", "check", gettext_lazy("OK")),
    "error": ("bad", "cross", gettext_lazy("Error")),
    "timeout": ("bad", "clock", gettext_lazy("Timeout")),
    "expired": ("attention", "clock", gettext_lazy("Expired")),
    "PASS": ("good", "check", gettext_lazy("Pass")),
    "FAIL": ("bad", "cross", gettext_lazy("Fail")),
    "HOLD": ("attention", "clock", gettext_lazy("Not enough evidence")),
    "deploy": ("accent", "up", gettext_lazy("Deployed")),
    "canary": ("attention", "up", gettext_lazy("Canary")),
    "promote": ("good", "up", gettext_lazy("Promoted")),
    "rollback": ("bad", "back", gettext_lazy("Rolled back")),
    "automatic_rollback": ("bad", "back", gettext_lazy("Rolled back by itself")),
    "alert-pending": ("neutral", "clock", gettext_lazy("Pending")),
    "alert-firing": ("bad", "alert", gettext_lazy("Firing")),
    "alert-acknowledged": ("attention", "person", gettext_lazy("Acknowledged")),
    "alert-resolved": ("good", "check", gettext_lazy("Resolved")),
    "critical": ("bad", "alert", gettext_lazy("Critical")),
    "high": ("bad", "alert", gettext_lazy("High")),
    "medium": ("attention", "alert", gettext_lazy("Medium")),
    "low": ("neutral", "alert", gettext_lazy("Low")),
    "info": ("neutral", "alert", gettext_lazy("Information")),
}
STAGES = {
    "pilot": gettext_lazy("Pilot"),
    "shadow": gettext_lazy("Shadow"),
    "narrow": gettext_lazy("Narrow"),
    "expanded": gettext_lazy("Expanded"),
}
PRIORITIES = {
    1: ("bad", gettext_lazy("Urgent")),
    2: ("attention", gettext_lazy("High")),
    3: ("neutral", gettext_lazy("Normal")),
    4: ("neutral", gettext_lazy("Low")),
}
KINDS = {
    "email": gettext_lazy("E-mail"),
    "phone": gettext_lazy("Phone"),
    "card": gettext_lazy("Card"),
    "iban": gettext_lazy("IBAN"),
    "national-number": gettext_lazy("National number"),
    "secret": gettext_lazy("Secret"),
}
ACTORS = {"user": "person", "key": "key", "rule": "rule", "agent": "machine", "system": "machine"}


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>', name)


@register.simple_tag
def status(name: str, badge: bool = False) -> SafeString:
    """Icon and word of a state; as a filled badge where it is the one thing to see."""
    tone, sign, word = STATUS.get(name, ("neutral", "more", name.replace("_", " ").capitalize()))
    return format_html(
        '<span class="{}" data-tone="{}">{}{}</span>', "badge" if badge else "mark", tone, icon(sign), word
    )


@register.simple_tag
def tone(name: str) -> str:
    return STATUS.get(name, ("neutral", "", ""))[0]


@register.simple_tag
def sign(name: str) -> str:
    return STATUS.get(name, ("neutral", "more", ""))[1]


@register.simple_tag
def ladder(stage: str) -> SafeString:
    return format_html(
        '<span class="ladder" data-stage="{}"><i></i><i></i><i></i><i></i><span>{}</span></span>',
        stage,
        STAGES.get(stage, stage),
    )


@register.simple_tag
def priority(level: int) -> SafeString:
    tone, word = PRIORITIES.get(level, ("neutral", str(level)))
    return (
        format_html('<span class="badge" data-tone="{}">{}</span>', tone, word)
        if level < 3
        else format_html("{}", word)
    )


@register.simple_tag
def said(text: str, may_reveal: bool = False) -> SafeString:
    """Words with their tokens as buttons, for who may look behind them; the page has a form with the id `reveal`."""
    pieces, at = [], 0
    for token in TOKEN.finditer(text or ""):
        pieces += [format_html("{}", text[at : token.start()]), _token(token[1], token[2], may_reveal)]
        at = token.end()
    return mark_safe("".join([*pieces, format_html("{}", (text or "")[at:])]))  # noqa: S308  every piece is escaped


def _token(kind: str, token: str, may_reveal: bool) -> SafeString:
    word = KINDS.get(kind, kind)
    if not may_reveal:
        return format_html('<span class="token">{}</span>', word)
    return format_html(
        '<button class="token" form="reveal" formaction="{0}" hx-post="{0}" hx-target="this" hx-swap="outerHTML" '
        'title="{1}" aria-label="{2}">{3} <span class="quiet">{4}</span></button>',
        reverse("reveal", args=[token]),
        _("Show it; that you looked is written down"),
        _("Show the hidden value: %(kind)s %(token)s") % {"kind": word, "token": token[:4]},
        word,
        token[:4],
    )


@register.filter
def edge(name: str) -> str:
    """`low_confidence` as words."""
    return str(name).replace("_", " ").replace("-", " ").capitalize()


@register.filter
def money(nano: int | None) -> SafeString:
    """Two digits that mean something: "$12.40", "$0.0042"; what has no price is "unpriced", never 0."""
    if nano is None:
        return format_html('<span class="badge" data-tone="attention">{}</span>', _("unpriced"))
    return mark_safe(dollars(nano))  # noqa: S308  digits and a sign


def dollars(nano: int) -> str:
    amount = nano / DOLLAR
    if not nano:
        return "$0"
    if abs(amount) >= 1:
        return f"${amount:,.2f}".replace("$-", "−$")
    text = f"{amount:.9f}"
    zeros = len(text.partition(".")[2]) - len(text.partition(".")[2].lstrip("0"))
    return f"${amount:.{max(2, min(9, zeros + 2))}f}".replace("$-", "−$")


@register.filter
def ms(value: float | None) -> str:
    """A duration: "0.4 ms", "340 ms", "1.9 s", "3 min"."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} ms"
    if value < 1_000:
        return f"{value:.0f} ms"
    return f"{value / 1_000:.1f} s" if value < 120_000 else f"{value / 60_000:.0f} min"


@register.filter
def seconds(value: int) -> str:
    """A span as people set it: "45 s", "15 min", "48 h"."""
    if value < 120:
        return f"{value} s"
    return f"{round(value / 60, 1):g} min" if value < 7_200 else f"{round(value / 3_600, 1):g} h"


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


@register.filter
def share(part: float | None) -> str:
    """A share that may be small: "41 %", "0.4 %", "< 0.1 %"."""
    if part is None:
        return "–"
    if 0 < part < 0.001:
        return "< 0.1 %"
    return f"{part * 100:.1f} %" if 0 < part < 0.1 else f"{part * 100:.0f} %"


@register.filter
def signed(share: float | None) -> str:
    """A difference in percent: "+3.2 %", "−0.4 %"."""
    if share is None:
        return "–"
    return f"{share * 100:+.1f} %".replace("-", "−")


@register.filter
def zero(count: int) -> SafeString:
    """A nought that does not shout in a column of figures."""
    return format_html("{}", f"{count:,}") if count else mark_safe('<span class="zero">0</span>')


@register.simple_tag
def ago(moment: datetime | str | None) -> SafeString:
    """Relative time with the absolute on hover; a script keeps it true."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment is None:
        return mark_safe('<span class="quiet">–</span>')
    at = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        at.isoformat(timespec="seconds"),
        at.strftime("%Y-%m-%d %H:%M:%S %Z"),
        relative(moment),
    )


@register.filter
def clock(moment: datetime, zone: str) -> str:
    """A moment near by in a time zone: "16:40" today, "Thu 09:00" within a week, "26 Nov" later."""
    at, now = timezone.localtime(moment, zone_of(zone)), timezone.localtime(None, zone_of(zone))
    days = (at.date() - now.date()).days
    return date_format(at, "H:i" if not days else "D H:i" if 0 < days < 7 else "j M")


def relative(moment: datetime, now: datetime | None = None) -> str:
    now = now or timezone.now()
    distance = (now - moment).total_seconds()
    if abs(distance) < 60:
        count = int(abs(distance))
        text = ngettext("%(n)d s", "%(n)d s", count) % {"n": count}
    else:
        text = timesince(moment, now, depth=1) if distance > 0 else timesince(now, moment, depth=1)
    return _("%(time)s ago") % {"time": text} if distance >= 0 else _("in %(time)s") % {"time": text}


@register.simple_tag
def due(moment: datetime | None) -> SafeString:
    """An SLA clock: how long there is, red when it has passed."""
    if moment is None:
        return mark_safe('<span class="quiet">–</span>')
    left = (moment - timezone.now()).total_seconds()
    tone = "bad" if left < 0 else "attention" if left < 300 else "neutral"
    return format_html('<span class="mark" data-tone="{}">{}{}</span>', tone, icon("clock"), ago(moment))


@register.simple_tag
def actor(name: str) -> SafeString:
    """Person, key, rule or machine, each with its sign; the full form on hover."""
    kind, _sep, rest = name.partition(":")
    if not rest:
        return format_html("{}", name or "–")
    return format_html('<span class="actor" title="{}">{}{}</span>', name, icon(ACTORS.get(kind, "machine")), rest)


@register.simple_tag
def bar(spent: float, limit: float, held: float = 0, tone: str = "") -> SafeString:
    """Spent and held of a limit. An SVG, because widths would otherwise be inline styles."""
    share = min(100.0, 100 * spent / limit) if limit else (100.0 if spent else 0.0)
    on_hold = min(100.0 - share, 100 * held / limit) if limit else 0.0
    tone = tone or ("bad" if share >= 100 else "attention" if share >= 80 else "accent")
    return format_html(
        '<svg class="bar" data-tone="{}" role="img" aria-label="{}"><rect class="spent" width="{}%" height="100%"/>'
        '<rect class="held" x="{}%" width="{}%" height="100%"/></svg>',
        tone,
        _("%(share).0f %% used") % {"share": share},
        f"{share:.2f}",
        f"{share:.2f}",
        f"{on_hold:.2f}",
    )


@register.simple_tag
def budget_bar(spent: int, held: int, projected: int, limit: int) -> SafeString:
    """Spent, held, what this pace adds until the window ends, and the steps of the degradation ladder as ticks."""
    share, on_hold, ahead = ((100 * nano / limit if limit else 0.0) for nano in (spent, held, projected))
    share = min(100.0, share) if limit else 100.0 * bool(spent)
    on_hold = min(100.0 - share, on_hold)
    ahead = min(100.0 - share - on_hold, ahead)
    tone = "bad" if share >= 100 else "attention" if share >= 85 else "accent"
    says = _("%(share).0f %% spent, %(ahead).0f %% by the end at this pace") % {
        "share": share,
        "ahead": share + on_hold + ahead,
    }
    ticks = format_html_join(
        "", '<rect class="tick" x="{}%" width="1" height="100%"/>', ((str(step),) for step in LADDER_STEPS)
    )
    return format_html(
        '<svg class="bar" data-tone="{}" role="img" aria-label="{}"><rect class="spent" width="{}%" height="100%"/>'
        '<rect class="held" x="{}%" width="{}%" height="100%"/>'
        '<rect class="ahead" x="{}%" width="{}%" height="100%"/>{}</svg>',
        tone,
        says,
        f"{share:.2f}",
        f"{share:.2f}",
        f"{on_hold:.2f}",
        f"{share + on_hold:.2f}",
        f"{ahead:.2f}",
        ticks,
    )


@register.simple_tag
def confidence(value: float | str | None) -> SafeString:
    if not isinstance(value, int | float):  # evidence is JSON: it may lack the figure
        return mark_safe('<span class="quiet">–</span>')
    tone = "good" if value >= 0.75 else "attention" if value >= 0.5 else "bad"
    return format_html(
        '<span class="meter" data-tone="{}"><svg class="bar" aria-hidden="true">'
        '<rect class="spent" width="{}%" height="100%"/></svg>{}</span>',
        tone,
        f"{value * 100:.0f}",
        f"{value:.2f}",
    )


@register.filter
def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str)


@register.filter
def get(mapping: Mapping[Any, Any], key: Any) -> Any:
    return mapping.get(key) if mapping else None


@register.filter
def words(line: str) -> list[str]:
    return line.split()


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The present address's query with some fields changed; an empty value leaves the field out."""
    fields = context["request"].GET.copy()
    fields.pop("before", None)  # another filter begins at the first page
    for name, value in changes.items():
        fields.pop(name, None)
        if value not in ("", None):
            fields[name] = value
    return f"?{fields.urlencode()}" if fields else "?"
