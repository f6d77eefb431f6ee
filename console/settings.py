"""Settings of one installation.

Everything that differs between machines comes from the environment (see docs/settings.md).
"""

import hashlib
import os
import secrets
from pathlib import Path

import plotly
from celery.schedules import schedule
from csp.constants import NONE, SELF
from psycopg.conninfo import conninfo_to_dict

from console import embedded

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PILOTHOUSE_DATA") or BASE_DIR / "data").resolve()
DEBUG = os.environ.get("PILOTHOUSE_DEBUG") == "1"


def _secret_key() -> str:
    """The environment's key, else one made once and kept in the data folder, readable by its owner only."""
    if key := os.environ.get("PILOTHOUSE_SECRET_KEY"):
        return key
    path = DATA / "secret_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(50))
        except FileExistsError:  # another process was faster
            pass
    return path.read_text().strip()


def _list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


SECRET_KEY = _secret_key()
HTTPS = os.environ.get("PILOTHOUSE_HTTPS") == "1"
ALLOWED_HOSTS = _list("PILOTHOUSE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _list("PILOTHOUSE_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django_htmx",
    "template_partials",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "budgets",
    "guardrails",
    "escalations",
    "agents",
    "console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.shell",
            ],
        },
    },
]

# --- state -------------------------------------------------------------------------------------------------------
_services = embedded.urls(DATA)
DATABASE_URL = os.environ.get("DATABASE_URL") or _services.database
REDIS_URL = os.environ.get("REDIS_URL") or _services.redis

_conninfo = conninfo_to_dict(DATABASE_URL)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _conninfo.pop("dbname", "pilothouse"),
        "USER": _conninfo.pop("user", ""),
        "PASSWORD": _conninfo.pop("password", ""),
        "HOST": _conninfo.pop("host", ""),
        "PORT": _conninfo.pop("port", ""),
        "OPTIONS": {
            **_conninfo,
            "pool": {"min_size": 1, "max_size": int(os.environ.get("PILOTHOUSE_DB_POOL", "16")), "timeout": 15},
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Celery ------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "global_keyprefix": "ph:celery:"}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "expire-holds": {"task": "budgets.tasks.expire_holds", "schedule": schedule(5)},
    "rescue-turns": {"task": "agents.tasks.rescue_turns", "schedule": schedule(5)},
    "deliver-decisions": {"task": "agents.tasks.deliver_decisions", "schedule": schedule(1)},
    "call-back": {"task": "console.deliveries.call_back_due", "schedule": schedule(1)},
    "expire-escalations": {"task": "escalations.tasks.expire_due", "schedule": schedule(15)},
    "watch-scopes": {"task": "console.tasks.watch_scopes", "schedule": schedule(30)},
    "forget-sealed": {"task": "agents.tasks.forget_sealed", "schedule": schedule(600)},
    "drop-old-calls": {"task": "agents.tasks.drop_old_calls", "schedule": schedule(3_600)},
}

# --- how long the call log is kept, in days: each call, its sums by minute, its sums by hour -----------------------
CALLS_KEPT_DAYS = int(os.environ.get("PILOTHOUSE_CALLS_KEPT_DAYS", "90"))
MINUTES_KEPT_DAYS = int(os.environ.get("PILOTHOUSE_MINUTES_KEPT_DAYS", "35"))
HOURS_KEPT_DAYS = int(os.environ.get("PILOTHOUSE_HOURS_KEPT_DAYS", "800"))

# --- people ------------------------------------------------------------------------------------------------------
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if os.environ.get("PILOTHOUSE_BEHIND_PROXY") == "1" else None
)
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    },
}

# --- static, languages -------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = DATA / "static"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    ("vendor/plotly", Path(plotly.__file__).parent / "package_data"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
LOCALE_PATHS = [BASE_DIR / "console" / "locale"]

# --- REST --------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["console.api.auth.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["console.api.auth.HasKey"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "console.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Pilothouse",
    "VERSION": "1",
    "DESCRIPTION": "Turns, cases, escalations, releases, deployments, budgets, calls and audit of one installation.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": [],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- Pilothouse --------------------------------------------------------------------------------------------------
DECISION_HOLD_SECONDS = float(os.environ.get("PILOTHOUSE_DECISION_HOLD_SECONDS", "10"))
CALLBACK_ALLOWED_HOSTS = _list("PILOTHOUSE_CALLBACK_ALLOWED_HOSTS")
PROVIDER_ALLOWED_HOSTS = _list("PILOTHOUSE_PROVIDER_ALLOWED_HOSTS")
PUBLIC_URL = os.environ.get("PILOTHOUSE_PUBLIC_URL", "").rstrip("/")  # stands before the links that leave the house
ALERT_WEBHOOK = os.environ.get("PILOTHOUSE_ALERT_WEBHOOK", "")
ALERT_WEBHOOK_SECRET = (
    os.environ.get("PILOTHOUSE_ALERT_WEBHOOK_SECRET")
    or hashlib.sha256(b"alert webhook\n" + SECRET_KEY.encode()).hexdigest()
)
MAX_MESSAGE_CHARS = 20_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("PILOTHOUSE_LOG_LEVEL", "INFO")},
    "loggers": {"django": {"level": "INFO"}, "celery": {"level": "WARNING"}, "csp": {"level": "WARNING"}},
}
