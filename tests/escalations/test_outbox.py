"""Decisions on their way out: once each at least, signed, and never to where they must not go."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.models import User
from django.utils import timezone

from escalations import outbox, queue
from escalations.models import Delivery
from tests.escalations.conftest import Put, Settle

SECRET = "whsec_test"


@pytest.fixture
def delivery(put: Put, settle: Settle) -> Delivery:
    return settle(put(), "approved").delivery


def again(delivery: Delivery, **changes: Any) -> Delivery:
    Delivery.objects.filter(pk=delivery.pk).update(**changes)
    delivery.refresh_from_db()
    return delivery


def test_a_decision_is_due_when_the_time_to_undo_has_passed(put: Put, settle: Settle, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 10.0
    delivery = settle(put(), "approved").delivery
    assert not outbox.due()
    assert list(outbox.due(timezone.now() + timedelta(seconds=11))) == [delivery]


def test_what_nobody_decided_leaves_at_once(put: Put, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 10.0
    put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="safe_refusal")
    queue.expire_due()
    assert [row.decision.kind for row in outbox.due()] == ["expired_no_response"]


def test_goes_from_held_to_sent_to_delivered_to_acknowledged(delivery: Delivery) -> None:
    assert delivery.state == "held"
    assert outbox.mark_sent(delivery, url="https://shop.example/hook")
    assert again(delivery).state == "sent"
    assert outbox.mark_delivered(delivery)
    assert again(delivery).state == "delivered"
    assert outbox.acknowledge(delivery.decision)
    assert again(delivery).state == "acknowledged"
    assert not outbox.due(timezone.now() + timedelta(days=1))


def test_each_step_is_taken_once(delivery: Delivery) -> None:
    assert not outbox.mark_delivered(delivery)
    assert not outbox.acknowledge(delivery.decision)
    assert outbox.mark_sent(delivery)
    assert not outbox.mark_sent(delivery)
    assert outbox.mark_delivered(delivery)
    assert not outbox.mark_delivered(delivery)


def test_what_was_undone_is_not_sent(put: Put, settle: Settle, anna: User, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 10.0
    delivery = settle(put(), "approved").delivery
    queue.undo(delivery.decision_id, anna)
    assert not outbox.mark_sent(delivery)
    assert not outbox.due(timezone.now() + timedelta(days=1))


def test_what_a_dead_sender_left_is_sent_again(delivery: Delivery) -> None:
    outbox.mark_sent(delivery)
    assert not outbox.due()
    assert list(outbox.due(timezone.now() + timedelta(seconds=61))) == [delivery]


def test_failures_are_tried_again_with_growing_pauses(delivery: Delivery) -> None:
    outbox.mark_sent(delivery)
    pauses = []
    for _ in range(8):
        outbox.mark_failed(delivery, "The callback answered 500.")
        again(delivery)
        assert delivery.next_try_at is not None
        pauses.append(round((delivery.next_try_at - timezone.now()).total_seconds()))
    assert pauses == [1, 5, 15, 60, 300, 900, 3_600, 3_600]
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("sent", 8, "The callback answered 500.")


def test_after_a_day_it_is_dead_and_says_why(delivery: Delivery) -> None:
    outbox.mark_sent(delivery)
    again(delivery, due_at=timezone.now() - timedelta(hours=25))
    outbox.mark_failed(delivery, "No\x00body " + "x" * 400)
    assert again(delivery).state == "dead"
    assert len(delivery.last_error) == 300
    assert not outbox.due(timezone.now() + timedelta(days=2))


def test_a_failure_that_comes_late_does_not_undo_a_delivery(delivery: Delivery) -> None:
    outbox.mark_sent(delivery)
    outbox.mark_delivered(delivery)
    outbox.mark_failed(delivery, "late")
    assert again(delivery).state == "delivered"


def test_the_signature_can_be_checked_with_nothing_but_hmac() -> None:
    header = outbox.sign(b'{"a":1}', SECRET, 1_764_000_000)
    at, _, digest = header.partition(",")
    assert at == "t=1764000000"
    assert digest == "v1=" + hmac.new(SECRET.encode(), b'1764000000.{"a":1}', hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.8", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
        "2002:7f00:1::1", "64:ff9b::a9fe:a9fe", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(address: str) -> None:
    assert not outbox.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are(address: str) -> None:
    assert outbox.is_public(address)


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)


@pytest.mark.parametrize(
    "url", ["http://rebind.example/x", "https://rebind.example", "http://user:pw@rebind.example:8080/"]
)
def test_a_name_that_points_inside_is_not_called(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    resolves(monkeypatch, "10.1.2.3", "169.254.169.254")
    with pytest.raises(outbox.NotAllowed, match="private address"):
        outbox.vetted(url)


def test_of_several_addresses_a_public_one_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, "10.1.2.3", "93.184.215.14")
    assert outbox.vetted("https://shop.example/hook")[1] == "93.184.215.14"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/",
        "file:///etc/passwd",
        "shop.example/hook",
        "http://",
        "http://shop.example:port/",
        "http://[::1",
        "",
    ],
)
def test_what_is_no_web_address_is_not_called(url: str) -> None:
    with pytest.raises(outbox.NotAllowed, match="http or https"):
        outbox.vetted(url)


def test_a_name_that_is_none_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(outbox.NotAllowed, match="cannot be resolved"):
        outbox.vetted("https://nowhere.example/")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "http://2130706433/", "http://[::ffff:127.0.0.1]/", "http://0x7f.1/"]
)
def test_other_ways_to_write_this_machine_are_seen_through(settings: Any, url: str) -> None:
    settings.CALLBACK_ALLOWED_HOSTS = []
    with pytest.raises(outbox.NotAllowed):
        outbox.post_callback(url, {}, SECRET)


class Hook(HTTPServer):
    """A caller's web hook: answers with `status`, remembers what it got."""

    status = 200
    got: list[tuple[str, dict[str, str], bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook(("127.0.0.1", 0), Answer)
    server.got = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_caller_gets_the_payload_signed(hook: Hook) -> None:
    outbox.post_callback(f"{hook.url}/hook me?x=ü&y=1", {"decision": 7, "text": "Jutro wysyłamy."}, SECRET)
    [(path, headers, body)] = hook.got
    assert path == "/hook%20me?x=%C3%BC&y=1"
    assert json.loads(body) == {"decision": 7, "text": "Jutro wysyłamy."}
    assert headers["host"] == f"127.0.0.1:{hook.server_port}"
    at = int(headers["x-pilothouse-signature"].removeprefix("t=").partition(",")[0])
    assert headers["x-pilothouse-signature"] == outbox.sign(body, SECRET, at)
    assert abs(time.time() - at) < 60


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_anything_but_success_is_a_failure_and_no_redirect_is_followed(hook: Hook, status: int) -> None:
    hook.status = status
    with pytest.raises(OSError, match=str(status)):
        outbox.post_callback(hook.url, {}, SECRET)
    assert len(hook.got) == 1


def test_nobody_listening_is_a_failure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="not answered"):
            outbox.post_callback(f"http://127.0.0.1:{free.getsockname()[1]}/", {}, SECRET)


def test_an_answer_that_trickles_in_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LONGEST_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            talk, _ = server.accept()
            with talk:
                try:
                    for byte in b"HTTP/1.1 200 " + b"O" * 1_000:
                        talk.send(bytes([byte]))
                        time.sleep(0.03)
                except OSError:
                    pass

        threading.Thread(target=trickle, daemon=True).start()
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            outbox.post_callback(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, SECRET)
        assert time.monotonic() - begun < 5


@pytest.fixture
def self_signed(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "self-signed.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(hook: Hook, self_signed: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed)
    hook.socket = context.wrap_socket(hook.socket, server_side=True)
    with pytest.raises(OSError, match="certificate verify failed"):
        outbox.post_callback(hook.url.replace("http", "https", 1), {"secret": 1}, SECRET)
    assert not hook.got
