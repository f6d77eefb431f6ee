"""Shows the coverage matrix; exits with 1 where a cell is empty."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from guardrails.concepts import packs
from guardrails.coverage import STAGES, Column, kept, matrix


class Command(BaseCommand):
    help = "Show which attack family is covered in which language, and what is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("languages", nargs="*", help="language codes; all by default")
        parser.add_argument("--store", action="store_true", help="try every disguise, too, and keep it for the console")

    def handle(self, *_args: Any, **options: Any) -> None:
        wanted = options["languages"] or list(packs())
        if unknown := sorted(set(wanted) - set(packs())):
            raise CommandError(f"There is no pack for '{unknown[0]}'.")
        if options["store"]:
            for code in kept.check(wanted):
                self.stdout.write(f"{code} is checked.")
            return
        columns = matrix({code: packs()[code] for code in wanted})
        self._table(columns)
        gaps = [line for column in columns for line in _gaps(column)]
        for line in gaps:
            self.stdout.write(line)
        if gaps:
            raise CommandError(f"{len(gaps)} gaps.")
        self.stdout.write(f"{len(columns)} languages × {len(STAGES)} families covered.")

    def _table(self, columns: tuple[Column, ...]) -> None:
        width = max(map(len, STAGES))
        self.stdout.write(" " * width + "  " + " ".join(f"{column.language:>4}" for column in columns))
        for at, family in enumerate(STAGES):
            cells = [column.cells[at] for column in columns]
            self.stdout.write(f"{family:<{width}}  " + " ".join(f"{c.probes if c.covered else '✗':>4}" for c in cells))


def _gaps(column: Column) -> list[str]:
    own = [f"{column.language}: {gap}" for gap in column.gaps]
    return own + [f"{cell.language} {cell.family}: {gap}" for cell in column.cells for gap in cell.gaps]
