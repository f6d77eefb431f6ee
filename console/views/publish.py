"""A new release in the browser: the newest one's five parts to change, and documents to add or leave out."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as __
from django.views.decorators.http import require_http_methods

from agents import knowledge, parts, releases
from agents.models import Agent, Document, Release
from console import access
from console.htmx import page

MOST_SHOWN = 300
MOST_BYTES = 10 * 1024 * 1024
JSON_PARTS = ("models", "guardrails", "edges")


class Files(forms.ClearableFileInput):
    allow_multiple_selected = True


class Documents(forms.FileField):
    """Markdown or plain text files; cleaned to (name, text) pairs."""

    widget = Files(attrs={"accept": ".md,.markdown,.txt,text/plain,text/markdown"})

    def clean(self, data: Any, initial: Any = None) -> list[tuple[str, str]]:
        uploads = [super(Documents, self).clean(one, initial) for one in data or []]
        if sum(upload.size for upload in uploads) > MOST_BYTES:
            raise ValidationError(_("These files are larger than 10 MB together."))
        return [(upload.name, _text(upload)) for upload in uploads]


def _text(upload: Any) -> str:
    try:
        return str(upload.read().decode("utf-8-sig")).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValidationError(_("%(name)s is not UTF-8 text.") % {"name": upload.name}) from error


class PrettyJson(forms.JSONField):
    widget = forms.Textarea(attrs={"class": "mono", "spellcheck": "false", "rows": 12})

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


class ReleaseForm(forms.Form):
    note = forms.CharField(label=__("What is new"), max_length=1_000, required=False)
    prompt = forms.CharField(
        label=__("Prompt"), max_length=50_000, strip=False, widget=forms.Textarea(attrs={"rows": 12})
    )
    documents = Documents(
        label=__("Add documents"),
        required=False,
        help_text=__("Markdown or text files. Front matter, the first heading or the file's name gives the title."),
    )
    language = forms.ChoiceField(label=__("Language of the added documents"), required=False)
    leave_out = forms.MultipleChoiceField(
        label=__("Documents to leave out"), required=False, widget=forms.CheckboxSelectMultiple
    )
    models = PrettyJson(label=__("Models"))
    guardrails = PrettyJson(label=__("Guardrails"))
    edges = PrettyJson(label=__("Edge rules"))

    def __init__(self, *args: Any, agent: Agent, known: list[Document], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["language"].choices = [(code, code) for code in agent.languages]  # type: ignore[attr-defined]
        choices = [(document.sha256, f"{document.title} ({document.language})") for document in known]
        self.fields["leave_out"].choices = choices  # type: ignore[attr-defined]
        if not known:
            del self.fields["leave_out"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        language = cleaned.get("language") or self.fields["language"].choices[0][0]  # type: ignore[attr-defined]
        try:
            cleaned["added"] = [knowledge.read(name, text, language) for name, text in cleaned.get("documents") or []]
        except ValueError as error:
            self.add_error("documents", str(error))
        return cleaned


@require_http_methods(["GET", "POST"])
def publish(request: HttpRequest, slug: str) -> HttpResponse:
    """The form with what the newest release has, or an agent's first release; POST publishes it. Nothing goes live."""
    agent = access.require_agent(access.person(request), slug, "administrator")
    base = agent.releases.select_related(*Release.PARTS).order_by("-number").first()
    contents = {part: version.content for part, version in base.parts().items()} if base else None
    contents = contents or parts.beginnings(agent.languages)
    known = Document.objects.filter(sha256__in=contents["knowledge"]["documents"]).defer("body")
    form = ReleaseForm(
        request.POST or None,
        request.FILES or None,
        agent=agent,
        known=list(known.order_by("title", "language")[:MOST_SHOWN]),
        initial={"prompt": contents["prompt"].get("text", ""), **{part: contents[part] for part in JSON_PARTS}},
    )
    if request.method == "POST" and form.is_valid():
        release = _publish(agent, base, contents, form, access.actor(request))
        if release is not None:
            messages.success(request, _("%(release)s is published. Nothing serves it yet.") % {"release": release})
            return redirect("release", agent.slug, release.number)
    status = 422 if form.errors else 200
    return page(request, "publish.html", {"form": form, "agent": agent, "base": base}, status=status)


@transaction.atomic
def _publish(
    agent: Agent, base: Release | None, contents: dict[str, Any], form: ReleaseForm, actor: str
) -> Release | None:
    """The release, or None with the form's errors set and nothing written."""
    said = form.cleaned_data
    kept = set(contents["knowledge"]["documents"]) - set(said.get("leave_out") or ())
    wanted = {
        "prompt": {**contents["prompt"], "text": said["prompt"].replace("\r\n", "\n")},
        "knowledge": knowledge.version_content([*kept, *knowledge.add_documents(said["added"])]),
        **{part: said[part] for part in JSON_PARTS},
    }
    versions = {}
    for part, content in wanted.items():
        try:
            versions[part] = releases.add_version(agent, part, content, author=actor, note=said["note"])
        except releases.Invalid as error:
            form.add_error("documents" if part == "knowledge" else part, str(error))
    if not form.errors and base and versions == base.parts():
        form.add_error(None, _("Nothing differs from %(release)s.") % {"release": base})
    if form.errors:
        transaction.set_rollback(True)
        return None
    return releases.publish(agent, versions, author=actor, note=said["note"])
