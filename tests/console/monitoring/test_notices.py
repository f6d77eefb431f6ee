"""What leaves the house about an alert: signed, once, and tried again where nobody answers."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Scope
from console.models import Alert, AlertNotice
from console.monitoring import alerts, notices
from tests.console.monitoring.conftest import Clock, call, deploy

pytestmark = pytest.mark.django_db
SECRET = "whsec_alerts"


class Pager(HTTPServer):
    """Whoever is on call: keeps what arrives, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 204
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/pilothouse"


class Handler(BaseHTTPRequestHandler):
    server: Pager

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pager(settings: Any) -> Iterator[Pager]:
    server = Pager()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_SECRET = server.url, SECRET
    settings.PUBLIC_URL = "https://pilothouse.example"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def tell() -> list[bool]:
    return [notices.send(pk) for pk in notices.due()]


def fire(scope: Scope, clock: Clock) -> None:
    deploy(scope, "Good", timedelta(hours=5))
    bad = deploy(scope, "Bad", timedelta(minutes=20))
    call(scope, bad, 20, ok=False)
    clock.look(2)
    AlertNotice.objects.exclude(change__alert__rule="error_rate").update(due_at=None)


def test_who_is_on_call_learns_what_changed_and_the_way_back(scope: Scope, clock: Clock, pager: Pager) -> None:
    fire(scope, clock)
    assert tell() == [True]
    headers, body = pager.got[0]
    said = json.loads(body)
    assert said["event"] == "alert.firing"
    assert said["alert"]["sentence"].startswith("20 of 20 calls failed")
    assert (said["alert"]["scope"], said["alert"]["severity"]) == ("acme/web", "critical")
    assert said["release"]["name"] == "acme@r2"
    assert (said["release"]["deployed_by"], said["release"]["changed_recently"]) == ("user:ada", True)
    assert said["rollback"] == {"to": "acme@r1", "url": f"https://pilothouse.example/scopes/{scope.pk}/rollback"}
    assert said["url"] == f"https://pilothouse.example/alerts/{Alert.objects.get(rule='error_rate').pk}"
    assert headers["content-type"] == "application/json"


def test_it_is_signed(scope: Scope, clock: Clock, pager: Pager) -> None:
    fire(scope, clock)
    tell()
    headers, body = pager.got[0]
    at, _, digest = headers["x-pilothouse-signature"].partition(",v1=")
    expected = hmac.new(SECRET.encode(), at.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()
    assert digest == expected


def test_it_is_told_once_when_it_fires_and_once_when_it_is_over(scope: Scope, clock: Clock, pager: Pager) -> None:
    fire(scope, clock)
    assert tell() == [True]
    clock.look(2)
    alerts.acknowledge(Alert.objects.get(rule="error_rate"), actor="user:ada")
    assert tell() == []
    call(scope, scope.live().release, 5_000)
    clock.look(2)
    assert tell() == [True]
    assert tell() == []
    assert [json.loads(body)["event"] for _, body in pager.got] == ["alert.firing", "alert.resolved"]


def test_what_never_fired_is_never_told(scope: Scope, clock: Clock, pager: Pager) -> None:
    release = deploy(scope, "One", timedelta(days=2))
    call(scope, release, 20, ok=False)
    clock.look()
    call(scope, release, 5_000)
    clock.look(2)
    assert not AlertNotice.objects.filter(change__alert__rule="error_rate").exists()


def test_without_an_address_nothing_is_laid_ready(scope: Scope, clock: Clock) -> None:
    fire(scope, clock)
    assert not AlertNotice.objects.exists()


def test_a_failure_is_kept_shown_and_tried_again(scope: Scope, clock: Clock, pager: Pager) -> None:
    fire(scope, clock)
    pager.status = 500
    assert tell() == [False]
    notice = AlertNotice.objects.get(change__alert__rule="error_rate")
    assert (notice.tries, notice.error, notice.sent_at) == (1, "The callback answered 500.", None)
    assert tell() == []
    AlertNotice.objects.filter(pk=notice.pk).update(due_at=timezone.now())
    pager.status = 200
    assert tell() == [True]
    notice.refresh_from_db()
    assert (notice.tries, notice.error, notice.due_at) == (2, "", None)
    assert notice.sent_at is not None


def test_two_workers_send_it_once(scope: Scope, clock: Clock, pager: Pager) -> None:
    fire(scope, clock)
    (pk,) = notices.due()
    assert [notices.send(pk), notices.send(pk)] == [True, False]
    assert len(pager.got) == 1


def test_after_a_day_it_is_given_up_and_says_why(
    scope: Scope, clock: Clock, pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from escalations import outbox

    fire(scope, clock)
    pager.status = 503
    monkeypatch.setattr(outbox, "GIVE_UP", timedelta(hours=-1))
    tell()
    notice = AlertNotice.objects.get(change__alert__rule="error_rate")
    assert (notice.due_at, notice.sent_at, notice.error) == (None, None, "The callback answered 503.")


def test_a_private_address_is_not_called_unless_it_is_allowed(
    scope: Scope, clock: Clock, pager: Pager, settings: Any
) -> None:
    settings.CALLBACK_ALLOWED_HOSTS = []
    fire(scope, clock)
    assert tell() == [False]
    assert pager.got == []
    assert "private address" in AlertNotice.objects.get(change__alert__rule="error_rate").error


def test_an_automatic_rollback_is_told(scope: Scope, clock: Clock, pager: Pager) -> None:
    good = deploy(scope, "Good", timedelta(hours=5))
    call(scope, good, 100, ago=timedelta(minutes=40))
    bad = deploy(scope, "Bad", timedelta(minutes=20))
    call(scope, bad, 20, ok=False)
    clock.look(2)
    payload = AlertNotice.objects.get(change__alert__rule="error_rate").payload
    assert payload["alert"]["rolled_back_to"] == str(good)
    assert "Rolled back from acme@r2 to acme@r1." in payload["note"]
