"""Personal data in what is stored: hidden as the live policy says (`private` in a guardrail policy).

Rows, log entries and kept bodies have `[email]` in place of a value, or, where the policy is reversible, a token
`[email:kdfjabpcaeghmnop]` whose value lies sealed beside the case. The same value in one case is the same token.

What the path and the customer need whole does not lie open anywhere: the words of a turn are sealed on its row until a
day after its end (`seal`, `restored`), so that the model gets the message, the caller the reply, and an approved draft
goes out as it was written. After that only tokens can be opened.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db.models import Q, QuerySet

from agents import snapshot
from agents.models import Case, PrivateValue, Release, Scope, Turn
from guardrails.detectors import Span, apart, mask
from guardrails.detectors.personal import personal
from guardrails.detectors.secrets import secrets
from guardrails.policy import NOTHING, Private
from guardrails.screen import Seen

KEPT = timedelta(days=1)  # as long as callers are called back
TOKEN = re.compile(r"\[(email|phone|card|iban|national-number|secret):([a-p]{16})\]")
_ROUNDS = 20
_GONE = "\n"  # in place of what was found: what stands on both sides of it is not one value
_SHORTEST = 4  # of a value that is looked for where its form does not show it
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")  # no detector takes a token for a number
_ELSEWHERE = frozenset({"sources", "citations"})  # passages of our own documents


class Unopened(Exception):
    """What is sealed cannot be opened: the secret key was changed."""


def hide(text: str, policy: Private, case: UUID | None) -> str:
    """The text as it may be stored for the case; without one there are no tokens, only labels."""
    hider = Hider(policy, case)
    hidden = hider.hide(text)
    hider.keep()
    return hidden


def reveal(token: str, cases: QuerySet[Case]) -> tuple[PrivateValue, str]:
    """What the token stands for, if it is of one of these cases.

    :raises PrivateValue.DoesNotExist: it is not. :raises Unopened: the secret key was changed.
    """
    found = PrivateValue.objects.select_related("case__channel__agent").get(pk=token, case__in=cases)
    return found, _open(found.sealed)


class Hider:
    """Hides in the texts of one case; a value that was seen in one of them is known in the others, too."""

    def __init__(self, policy: Private, case: UUID | None) -> None:
        self.policy, self.case = policy, case
        self._stands: dict[str, str] = {}  # value → what stands for it
        self._rows: dict[str, PrivateValue] = {}

    def __bool__(self) -> bool:
        return bool(self.policy.kinds)

    def hide(self, text: str) -> str:
        if not self or not text:
            return text
        for _ in range(_ROUNDS):  # what goes may uncover what stands beside it
            before, text = text, self._once(text)
            if text == before:
                break
        return text

    def _once(self, text: str) -> str:
        spans = [replace(span, label=self._stand_in(span, text)) for span in _spans(text, self.policy.kinds)]
        hidden = mask(text, spans)
        for value in sorted(self._stands, key=len, reverse=True):
            if len(value) >= _SHORTEST:
                hidden = hidden.replace(value, self._stands[value])
        return hidden

    def excerpt(self, text: str) -> str:
        """A piece of a text that was hidden before: at its edges a value may be cut."""
        hidden = self.hide(text)
        for value, stands in self._stands.items():
            for size in range(len(value) - 1, _SHORTEST - 1, -1):
                if hidden.startswith(value[-size:]):
                    hidden = stands + hidden[size:]
                if hidden.endswith(value[:size]):
                    hidden = hidden[:-size] + stands
        return hidden

    def within(self, value: Any) -> Any:
        """The same for every text in what JSON can hold; passages of documents stay as they are."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {name: one if name in _ELSEWHERE else self.within(one) for name, one in value.items()}
        return [self.within(one) for one in value] if isinstance(value, (list, tuple)) else value

    def findings(self, rows: Iterable[Seen]) -> tuple[Seen, ...]:
        return tuple(replace(seen, excerpt=self.excerpt(seen.excerpt)[:200]) for seen in rows)

    def keep(self) -> None:
        """Write down what the new tokens stand for; the case must be there."""
        PrivateValue.objects.bulk_create(self._rows.values(), ignore_conflicts=True)
        self._rows = {}

    def _stand_in(self, span: Span, text: str) -> str:
        value = text[span.start : span.end]
        if value not in self._stands:
            self._stands[value] = self._token(span.kind, value)
        return self._stands[value]

    def _token(self, kind: str, value: str) -> str:
        if not self.policy.reversible or self.case is None:
            return f"[{kind}]"
        about = f"{self.case}\n{kind}\n{value}".encode("utf-8", "replace")
        digest = hashlib.blake2b(about, digest_size=8, key=_key(settings.SECRET_KEY, "tokens")).hexdigest()
        row = PrivateValue(token=digest.translate(_LETTERS), case_id=self.case, kind=kind, sealed=_seal(value))
        self._rows[row.token] = row
        return str(row)


def _spans(text: str, kinds: frozenset[str]) -> list[Span]:
    """Every value of these kinds. What is found is blanked and looked behind; tokens are no values."""
    body, found = TOKEN.sub(lambda token: _GONE * len(token[0]), text), []
    for _ in range(_ROUNDS):
        more = [*secrets(body), *personal(body)]
        if not more:
            break
        found += more
        body = mask(body, [replace(span, label=_GONE * (span.end - span.start)) for span in more])
    return apart(span for span in found if span.kind in kinds)


# --- whose policy ----------------------------------------------------------------------------------------------------


def of(scope: Scope, wanted: Release | None = None) -> Private:
    """What the releases that may serve the scope name together; reversible where all who name something say so."""
    live = scope.live()
    serving = {row.pk: row for row in (wanted, live.release if live else None) if row}
    if live and live.percent < 100 and (stable := scope.stable()):
        serving[stable.pk] = stable
    place = snapshot.place_of(scope.name)
    return together(snapshot.compile_release(release, place).guardrails.private for release in serving.values())


def together(policies: Iterable[Private]) -> Private:
    naming = [policy for policy in policies if policy.kinds]
    kinds = frozenset(kind for policy in naming for kind in policy.kinds)
    return Private(kinds, bool(naming) and all(policy.reversible for policy in naming))


# --- the words of a turn ---------------------------------------------------------------------------------------------


def seal(**words: Any) -> str:
    """Words of a turn for its row: message, draft, reply, history."""
    return _seal(orjson.dumps(words).decode())


def words(turn: Turn) -> dict[str, Any]:
    """What is sealed on the turn; nothing where nothing is, or where it cannot be opened."""
    try:
        return dict(orjson.loads(_open(turn.sealed))) if turn.sealed else {}
    except Unopened:
        return {}


def restored(turn: Turn) -> Turn:
    """The turn with its words whole again, in memory only: for the path, and for who brought or gets them."""
    kept = words(turn)
    for name in ("message", "draft", "reply"):
        setattr(turn, name, kept.get(name) or opened(getattr(turn, name), turn.case_id))
    return turn


def opened(text: str, case: UUID) -> str:
    """The text with the tokens of its own case opened; one that cannot be opened stays."""
    tokens = {token for _, token in TOKEN.findall(text)}
    if not tokens:
        return text
    values = {row.token: row.sealed for row in PrivateValue.objects.filter(pk__in=tokens, case=case)}

    def value(found: re.Match[str]) -> str:
        try:
            return _open(values[found[2]])
        except (KeyError, Unopened):
            return found[0]

    return TOKEN.sub(value, text)


def forget(now: datetime) -> int:
    """Drop what is sealed on turns that are over for a day and wait for no decision."""
    over = Turn.objects.exclude(sealed="").filter(finished_at__lt=now - KEPT)
    return over.filter(
        Q(escalation=None) | Q(escalation__state="decided", escalation__decided_at__lt=now - KEPT)
    ).update(sealed="")


# --- the call log ----------------------------------------------------------------------------------------------------

_TEXTS = ("request", "response", "error", "findings")


def in_entries(entries: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Entries of the call stream as they may be stored. Tokens are of a case, so plain calls have labels."""
    known: dict[tuple[str, str], Private] = {}
    return [_in_entry(entry, known) if any(entry.get(name) for name in _TEXTS) else entry for entry in entries]


def _in_entry(entry: dict[str, str], known: dict[tuple[str, str], Private]) -> dict[str, str]:
    where = (entry.get("release", ""), entry.get("scope", ""))
    if where not in known:
        known[where] = _named(*where)
    if not known[where].kinds:
        return entry
    hider = Hider(known[where], _case_of(entry) if known[where].reversible else None)
    hidden = {name: _json(hider, entry[name]) for name in ("request", "response", "error") if entry.get(name)}
    if entry.get("findings"):
        rows = [{**row, "excerpt": hider.excerpt(row["excerpt"])[:200]} for row in orjson.loads(entry["findings"])]
        hidden["findings"] = orjson.dumps(rows).decode()
    hider.keep()
    return {**entry, **hidden}


def _named(release: str, scope: str) -> Private:
    slug, _, number = release.rpartition("@r")
    found = Release.objects.filter(agent__slug=slug, number=int(number)).first() if number.isdecimal() else None
    return snapshot.compile_release(found, snapshot.place_of(scope)).guardrails.private if found else NOTHING


def _case_of(entry: Mapping[str, str]) -> UUID | None:
    turn = entry.get("turn_id")
    return Turn.objects.filter(pk=turn).values_list("case_id", flat=True).first() if turn else None


def _json(hider: Hider, text: str) -> str:
    """Inside of JSON its texts, so that it stays JSON; a text that is none, or was cut, as it is."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return hider.hide(text)
    return orjson.dumps(hider.within(value)).decode() if isinstance(value, (dict, list)) else hider.hide(text)


# --- keys ------------------------------------------------------------------------------------------------------------


def _seal(text: str) -> str:
    return _box(settings.SECRET_KEY).encrypt(text.encode("utf-8", "replace")).decode()


def _open(sealed: str) -> str:
    try:
        return _box(settings.SECRET_KEY).decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Unopened("It cannot be opened: the secret key was changed.") from error


@lru_cache(maxsize=4)
def _box(secret: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_key(secret, "values")))


@lru_cache(maxsize=8)
def _key(secret: str, use: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"pilothouse private {use}".encode()).derive(secret.encode())
