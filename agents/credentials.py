"""Keys of model providers: sealed in Postgres with a key made of SECRET_KEY, open only in the memory of a process."""

from __future__ import annotations

import base64
import logging

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents.models.credential import Credential

log = logging.getLogger(__name__)
_known: dict[str, str] = {}


def store(name: str, secret: str, *, actor: str) -> Credential:
    """A new key, or another one in the place of the present one. The caller raises the epoch on commit.

    :raises ValidationError: the name is not one, or the key is empty.
    """
    if not secret:
        raise ValidationError("The key is empty.")
    sealed = _box().encrypt(secret.encode()).decode()
    found = Credential.objects.filter(name=name).first() or Credential(name=name)
    found.sealed, found.actor, found.at = sealed, actor, timezone.now()
    found.hint = secret[-4:] if len(secret) >= 12 else ""
    found.full_clean()
    found.save()
    return found


def refresh() -> None:
    """Open every key for this process; one that cannot be opened (SECRET_KEY was changed) counts as none."""
    box, opened = _box(), {}
    for row in Credential.objects.all():
        try:
            opened[row.name] = box.decrypt(row.sealed.encode()).decode()
        except InvalidToken:
            log.warning("the stored credential %s cannot be opened: was the secret key changed?", row.name)
    _known.clear()
    _known.update(opened)


def secret(name: str) -> str:
    """The key, or ''."""
    return _known.get(name, "")


def _box() -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"pilothouse credentials").derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
