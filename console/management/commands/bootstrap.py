"""First run: the administrator, and the demo agent with its key. Safe to run at every start."""

from __future__ import annotations

import os
import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from agents.demo.load import load_demo
from agents.models import Agent, Channel
from console.models import ApiKey, Membership


class Command(BaseCommand):
    help = "Creates the administrator and, unless --no-demo, the demo agent; prints their secrets once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="Start empty.")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            self._administrator()
            if not options["no_demo"] and not Agent.objects.exists():
                load_demo(author="system:demo")
                self._people()
            if not options["no_demo"]:
                self._key()

    def _administrator(self) -> None:
        if User.objects.filter(is_superuser=True).exists():
            return
        password = os.environ.get("PILOTHOUSE_ADMIN_PASSWORD") or secrets.token_urlsafe(12)
        User.objects.create_superuser("admin", password=password)
        self.stdout.write(f"Administrator   admin / {password}   (shown once)")

    def _people(self) -> None:
        """Two colleagues of the demo without passwords: the administrator sets them under Settings → People."""
        for name, role in (("olga", "operations"), ("viktor", "viewer")):
            user = User.objects.create_user(name)
            user.set_unusable_password()
            user.save()
            Membership.objects.create(user=user, agent=Agent.objects.get(slug="support"), role=role)

    def _key(self) -> None:
        if ApiKey.objects.exists():
            return
        channel = Channel.objects.filter(agent__slug="support", slug="web").select_related("agent").first()
        if channel is None:
            return
        _, secret = ApiKey.issue(
            name="Demo",
            actor="system:demo",
            scopes=list(ApiKey.SCOPES),
            agent=channel.agent,
            secret=os.environ.get("PILOTHOUSE_API_KEY", ""),
        )
        self.stdout.write(f"Demo API key    {secret}   (shown once)")
