"""Every address. Pages ask for a signed-in person here, in one place, so that none can forget to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, URLResolver, include, path

from console import health
from console.htmx import signed_in
from console.views import (
    alerts,
    audit,
    conversations,
    costs,
    doors,
    guardrails,
    increases,
    invoices,
    knowledge,
    models,
    overview,
    playground,
    publish,
    releases,
    review,
    settings,
    stages,
)


def page(route: str, view: Callable[..., Any], name: str) -> URLPattern:
    return path(route, signed_in(view), name=name)


urlpatterns: list[URLPattern | URLResolver] = [
    path("sign-in", doors.sign_in, name="sign-in"),
    path("sign-out", doors.sign_out, name="sign-out"),
    path("preferences", doors.preferences, name="preferences"),
    page("palette", doors.palette, "palette"),
    page("", overview.overview, "overview"),
    page("agents/<slug:slug>/pause", overview.pause, "pause"),
    page("review", review.review, "review"),
    page("review/news", review.news, "review-news"),
    page("review/count", review.count, "review-count"),
    page("review/start", review.start, "start"),
    page("review/<uuid:pk>", review.escalation, "escalation"),
    page("review/<uuid:pk>/claim", review.claim, "claim"),
    page("review/<uuid:pk>/heartbeat", review.heartbeat, "heartbeat"),
    page("review/<uuid:pk>/let-go", review.let_go, "let-go"),
    page("review/<uuid:pk>/decide", review.decide, "decide"),
    page("review/<uuid:pk>/undo/<int:decision_id>", review.undo, "undo"),
    page("cases", conversations.index, "cases"),
    page("cases/<uuid:pk>", conversations.case, "case"),
    page("cases/<uuid:pk>/owner", conversations.owner, "case-owner"),
    page("turns/<uuid:pk>", conversations.turn, "turn"),
    page("calls", conversations.calls, "calls"),
    page("calls/<uuid:call_id>", conversations.call, "call"),
    page("releases", releases.index, "releases"),
    page("releases/deploy", releases.choose, "deploy-choice"),
    page("releases/<slug:slug>/new", publish.publish, "publish"),
    page("releases/<slug:slug>/r<int:number>", releases.release, "release"),
    page("scopes/<int:pk>/deploy", releases.deploy, "deploy"),
    page("scopes/<int:pk>/rollback", releases.rollback, "rollback"),
    page("scopes/<int:pk>/arrival", releases.arrival, "arrival"),
    page("stages", stages.index, "stages"),
    page("scopes/<int:pk>", stages.scope, "scope-stage"),
    page("scopes/<int:pk>/move", stages.move, "move"),
    page("knowledge", knowledge.index, "knowledge"),
    page("knowledge/<slug:sha>", knowledge.document, "document"),
    page("guardrails", guardrails.guardrails, "guardrails"),
    page("costs", costs.costs, "costs"),
    page("costs/invoices", invoices.index, "invoices"),
    page("costs/invoices/<int:pk>", invoices.invoice, "invoice"),
    page("budgets/<int:pk>/raise", increases.grant, "raise"),
    page("budgets/<int:pk>/end-raise", increases.end, "end-raise"),
    page("alerts", alerts.index, "alerts"),
    page("alerts/<int:pk>", alerts.alert, "alert"),
    page("alerts/<int:pk>/acknowledge", alerts.acknowledge, "acknowledge"),
    page("playground", playground.playground, "playground"),
    page("playground/say", playground.say, "playground-say"),
    page("explain", models.explained, "explain"),
    page("audit", audit.audit, "audit"),
    page("audit/export", audit.export, "audit-export"),
    page("settings", settings.agents, "settings"),
    page("settings/agents/new", settings.agent, "settings-new-agent"),
    page("settings/agents/<slug:slug>", settings.agent, "settings-agent"),
    page("settings/agents/<slug:slug>/channels/new", settings.channel, "settings-new-channel"),
    page("settings/agents/<slug:slug>/channels/<int:pk>", settings.channel, "settings-channel"),
    page("settings/agents/<slug:slug>/scopes/new", settings.scope, "settings-new-scope"),
    page("settings/keys", settings.keys, "settings-keys"),
    page("settings/keys/<int:pk>/revoke", settings.revoke, "settings-revoke"),
    page("settings/people", settings.people, "settings-people"),
    page("settings/people/<int:pk>/withdraw", settings.withdraw, "settings-withdraw"),
    page("settings/budgets", settings.budgets, "settings-budgets"),
    page("settings/budgets/new", settings.budget, "settings-new-budget"),
    page("settings/budgets/<int:pk>", settings.budget, "settings-budget"),
    page("settings/models", models.models, "settings-models"),
    page("settings/models/test", models.test, "settings-test-model"),
    page("settings/credentials", models.store, "settings-store-credential"),
    page("settings/credentials/<slug:name>/forget", models.forget, "settings-forget-credential"),
    path("api/v1/", include("console.api.urls")),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
]
