"""`/api/v1/…`. What is not listed here is answered in the error shape, too."""

from __future__ import annotations

from csp.decorators import csp_update
from django.urls import URLPattern, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from console.api.errors import not_found
from console.api.resources import alerts, approvals, cases, escalations, explain, figures, private, releases, turns

# Swagger UI brings its own style element and style attributes; scripts stay ours alone.
docs = csp_update({"style-src": ["'unsafe-inline'"]})(SpectacularSwaggerSplitView.as_view(url_name="api-schema"))

urlpatterns: list[URLPattern] = [
    path("turns", turns.Turns.as_view(), name="api-turns"),
    path("turns/<uuid:pk>", turns.OneTurn.as_view(), name="api-turn"),
    path("cases", cases.Cases.as_view(), name="api-cases"),
    path("cases/<path:ref>/human-decisions", cases.HumanDecisions.as_view(), name="api-human-decisions"),
    path("cases/<path:ref>/take-over", cases.TakeOver.as_view(), name="api-take-over"),
    path("cases/<path:ref>/hand-back", cases.HandBack.as_view(), name="api-hand-back"),
    path("cases/<path:ref>", cases.OneCase.as_view(), name="api-case"),
    path("approvals", approvals.Approvals.as_view(), name="api-approvals"),
    path("approvals/<uuid:pk>", approvals.OneApproval.as_view(), name="api-approval"),
    path("escalations", escalations.Escalations.as_view(), name="api-escalations"),
    path("escalations/<uuid:pk>", escalations.OneEscalation.as_view(), name="api-escalation"),
    path("escalations/<uuid:pk>/claim", escalations.Claim.as_view(), name="api-claim"),
    path("escalations/<uuid:pk>/heartbeat", escalations.Heartbeat.as_view(), name="api-heartbeat"),
    path("escalations/<uuid:pk>/let-go", escalations.LetGo.as_view(), name="api-let-go"),
    path("escalations/<uuid:pk>/decide", escalations.Decide.as_view(), name="api-decide"),
    path("private/<slug:token>/reveal", private.Reveal.as_view(), name="api-reveal"),
    path("versions", releases.Versions.as_view(), name="api-versions"),
    path("versions/<int:pk>", releases.OneVersion.as_view(), name="api-version"),
    path("releases", releases.Releases.as_view(), name="api-releases"),
    path("releases/<str:name>", releases.OneRelease.as_view(), name="api-release"),
    path("scopes", releases.Scopes.as_view(), name="api-scopes"),
    path("scopes/<int:pk>", releases.OneScope.as_view(), name="api-scope"),
    path("scopes/<int:pk>/deployments", releases.Deployments.as_view(), name="api-deployments"),
    path("scopes/<int:pk>/deploy", releases.Deploy.as_view(), name="api-deploy"),
    path("scopes/<int:pk>/rollback", releases.Rollback.as_view(), name="api-rollback"),
    path("key", figures.Key.as_view(), name="api-key"),
    path("agents", figures.Agents.as_view(), name="api-agents"),
    path("budgets", figures.Budgets.as_view(), name="api-budgets"),
    path("explain", explain.Explain.as_view(), name="api-explain"),
    path("usage", figures.Usage.as_view(), name="api-usage"),
    path("calls", figures.Calls.as_view(), name="api-calls"),
    path("findings", figures.Findings.as_view(), name="api-findings"),
    path("findings/<int:pk>/harmless", figures.Harmless.as_view(), name="api-harmless"),
    path("alerts", alerts.Alerts.as_view(), name="api-alerts"),
    path("alerts/<int:pk>", alerts.OneAlert.as_view(), name="api-alert"),
    path("alerts/<int:pk>/acknowledge", alerts.Acknowledge.as_view(), name="api-acknowledge"),
    path("audit", figures.Audit.as_view(), name="api-audit"),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", docs, name="api-docs"),
    re_path("", not_found, name="api-nothing"),
]
