"""The product's settings, for tests: decisions leave at once, flushes may empty append-only tables."""

from console.settings import *  # noqa: F403
from console.settings import DATABASES

DATABASES["default"]["OPTIONS"].pop("pool")
DATABASES["default"]["OPTIONS"]["options"] = "-c pilothouse.allow_truncate=on"
DECISION_HOLD_SECONDS = 0.0
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
CALLBACK_ALLOWED_HOSTS = PROVIDER_ALLOWED_HOSTS = ["127.0.0.1"]
