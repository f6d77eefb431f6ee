"""`manage.py audit_verify`: is the audit trail whole and unchanged?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console import audit


class Command(BaseCommand):
    help = (
        "Recomputes the hash chain of the audit trail. Names the first broken entry and exits with 1 if there is one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--anchor", default="", help="the head that an earlier run printed, kept somewhere else")

    def handle(self, *args: Any, **options: Any) -> None:
        proof = audit.verify(options["anchor"])
        if proof.broken is None:
            self.stdout.write(f"{proof.entries:,} entries, unbroken. Head {proof.head}")
            return
        found = f"Entry {proof.broken.entry} {proof.broken.sentence}" if proof.broken.entry else proof.broken.sentence
        raise CommandError(f"The audit trail is broken after {proof.entries:,} good entries. {found}")
