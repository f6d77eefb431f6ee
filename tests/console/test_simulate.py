"""The command against a small real HTTP server that speaks the turns API."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from agents.demo import content
from console.management.commands import simulate
from console.management.commands.simulate import cited_articles, edge_of

KEY = "ph_test"


class Turns(BaseHTTPRequestHandler):
    """Escalates what has a '!', refuses what says 'ignore', answers the rest; every third turn is slow."""

    protocol_version = "HTTP/1.1"
    busy_with, wait = 429, "0"

    def do_GET(self):
        if self.path == "/healthz":
            return self.reply(200, {"ok": True})
        return self.reply(200, self.server.turns[self.path.rsplit("/", 1)[1]])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            return self.turn(body)

    def turn(self, body):
        server = self.server
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.reply(401, {"error": {"code": "unauthenticated", "message": "Unknown key.", "details": {}}})
        if body["channel"] == "nowhere":
            return self.reply(404, {"error": {"code": "not_found", "message": "No such channel.", "details": {}}})
        server.posts.append((self.headers["Idempotency-Key"], self.headers["Prefer"], body))
        if server.busy:
            server.busy -= 1
            error = {"error": {"code": "rate_limited", "message": "Slow down."}}
            return self.reply(self.busy_with, error, {"Retry-After": self.wait})
        if server.broken:
            server.broken -= 1
            self.close_connection = True
            return None
        if server.down:
            return self.reply(500, {"error": {"code": "internal", "message": "Oops."}})
        pk = str(len(server.turns))
        server.turns[pk] = {"id": pk, "case": body["case"], "cost_usd": "0.000002", **self.outcome(body["message"])}
        if len(server.turns) % 3 == 0:
            return self.reply(202, {"id": pk, "outcome": "pending"}, {"Location": f"/api/v1/turns/{pk}"})
        return self.reply(200, server.turns[pk])

    def outcome(self, message):
        if "!" in message:
            return {"outcome": "escalated", "escalation": {"id": "e", "edge": "anger"}, "citations": []}
        if "ignore" in message.lower():
            return {"outcome": "refused", "reason": "guardrail", "citations": []}
        url = "https://kociolek.example/en/help/returns"
        return {"outcome": "answered", "reply": "30 days [1]", "citations": [{"n": 1, "url": url}]}

    def reply(self, status, body, headers=None):
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients that hang up in the middle are part of the tests."""


@pytest.fixture
def api():
    server = Server(("127.0.0.1", 0), Turns)
    server.turns, server.posts, server.busy, server.down, server.broken, server.lock = (
        {},
        [],
        0,
        False,
        0,
        threading.Lock(),
    )
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(simulate, "POLL_S", 0.01)
    monkeypatch.delenv("PILOTHOUSE_API_KEY", raising=False)


def run(api, *args, key=KEY):
    out, err = StringIO(), StringIO()
    keys = ["--key", key] if key else []
    call_command(simulate.Command(), "--url", api.url, "--rate", "10000", *keys, *args, stdout=out, stderr=err)
    return out.getvalue()


def test_sends_every_turn_once_and_shows_the_table(api):
    shown = run(api, "--profile", "pilot", "--turns", "40")
    assert len(api.posts) == 40
    assert len({key for key, _, _ in api.posts}) == 40
    assert {prefer for _, prefer, _ in api.posts} == {"wait=20"}
    assert "The pilot looks finished: 40 of 40" in shown
    assert "$0.000002" in shown


def test_all_profiles_stand_beside_each_other(api):
    shown = run(api, "--profile", "all", "--turns", "25")
    assert shown.strip().splitlines()[0].split() == ["pilot", "production", "attack"]
    assert "Of 25 attacks" in shown


def test_the_same_seed_sends_the_same_messages(api):
    texts = []
    for _ in range(2):
        api.posts.clear()
        run(api, "--profile", "production", "--turns", "60", "--seed", "7")
        texts.append(Counter(body["message"] for _, _, body in api.posts))
    assert texts[0] == texts[1]


def test_two_runs_are_different_cases(api):
    run(api, "--profile", "pilot", "--turns", "3")
    run(api, "--profile", "pilot", "--turns", "3")
    assert len({body["case"] for _, _, body in api.posts}) == 6


def test_follow_ups_stay_in_their_case(api):
    run(api, "--profile", "production", "--turns", "200")
    cases = Counter(body["case"] for _, _, body in api.posts)
    assert max(cases.values()) == 3


def test_a_customer_handed_to_a_person_says_no_more(api):
    seen = json.loads(run(api, "--profile", "production", "--turns", "217", "--json"))["profiles"]["production"]
    assert seen["turns"] == len(api.posts)
    assert seen["turns"] + seen["unsent"] == 217


def test_json_has_the_figures(api):
    seen = json.loads(run(api, "--profile", "attack", "--turns", "30", "--json"))
    attack = seen["profiles"]["attack"]
    assert attack["turns"] == 30
    assert sum(attack["outcomes"].values()) == 30
    assert attack["answered_but_must_not_be"] == attack["outcomes"]["answered"] == len(attack["wrong_turns"])
    assert "attacks" in seen["sentence"]


def test_wrong_turns_are_listed_when_asked_for(api):
    assert "wanted escalated or refused" in run(api, "--profile", "attack", "--turns", "20", "--wrong")


def test_waits_and_tries_again_under_the_same_key_when_told_to(api):
    api.busy = 3
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "5", "--json"))["profiles"]["pilot"]
    assert seen["outcomes"] == {"answered": 5}
    assert len(api.posts) == 8
    assert len({key for key, _, _ in api.posts}) == 5


def test_waits_for_a_first_request_that_is_still_at_work(api, monkeypatch):
    monkeypatch.setattr(Turns, "busy_with", 409)
    api.busy = 2
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "2", "--json"))["profiles"]["pilot"]
    assert seen["outcomes"] == {"answered": 2}


def test_does_not_wait_for_hours(api, monkeypatch):
    monkeypatch.setattr(Turns, "wait", "7200")
    api.busy = 1
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "1", "--json"))["profiles"]["pilot"]
    assert "rate_limited" in seen["wrong_turns"][0]["note"]


def test_a_broken_line_is_tried_again(api, monkeypatch):
    monkeypatch.setattr(simulate, "BROKEN_LINE_S", 0.01)
    api.broken = 3
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "4", "--json"))["profiles"]["pilot"]
    assert seen["outcomes"] == {"answered": 4}


def test_an_error_of_the_server_is_a_failed_turn(api):
    api.down = True
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "4", "--json"))["profiles"]["pilot"]
    assert seen["outcomes"] == {"failed": 4}
    assert "Oops." in seen["wrong_turns"][0]["note"]


def test_a_turn_that_never_ends_is_failed(api, monkeypatch):
    monkeypatch.setattr(Turns, "outcome", lambda self, message: {"outcome": "pending"})
    monkeypatch.setattr(simulate, "_target", lambda options: simulate.Target(api.url, KEY, "support", "web", 0.2))
    seen = json.loads(run(api, "--profile", "pilot", "--turns", "2", "--json"))["profiles"]["pilot"]
    assert seen["outcomes"] == {"failed": 2}


def test_a_wrong_key_stops_with_one_clear_line(api):
    with pytest.raises(CommandError, match="401 unauthenticated: Unknown key"):
        run(api, "--profile", "pilot", "--turns", "5", key="ph_wrong")


def test_an_unknown_channel_stops_with_one_clear_line(api):
    with pytest.raises(CommandError, match="No such channel"):
        run(api, "--turns", "5", "--channel", "nowhere")


def test_no_key_is_a_clear_error(api):
    with pytest.raises(CommandError, match="PILOTHOUSE_API_KEY"):
        run(api, "--turns", "5", key="")


def test_the_key_may_come_from_the_environment(api, monkeypatch):
    monkeypatch.setenv("PILOTHOUSE_API_KEY", KEY)
    assert "pilot" in run(api, "--profile", "pilot", "--turns", "2", key="")


def test_nobody_at_the_address_is_a_clear_error(api):
    with pytest.raises(CommandError, match="no Pilothouse answers there"):
        call_command(
            simulate.Command(), "--url", "http://127.0.0.1:9", "--key", KEY, stdout=StringIO(), stderr=StringIO()
        )


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "http://127.0.0.1/api", ""])
def test_a_strange_address_is_refused(url):
    with pytest.raises(CommandError, match="expected http"):
        call_command(simulate.Command(), f"--url={url}", "--key", KEY)


@pytest.mark.parametrize("args", [["--turns", "0"], ["--concurrency", "-1"], ["--profile", "peak"], ["--rate", "0"]])
def test_strange_numbers_are_refused(api, args):
    with pytest.raises(CommandError):
        run(api, *args)


def test_the_default_target_is_this_machine():
    parser = simulate.Command().create_parser("manage.py", "simulate")
    assert parser.parse_args([]).url == "http://127.0.0.1:8000"


def test_cited_articles_follow_the_marks_of_the_reply():
    returns, sizes = (
        next(article for article in content.articles() if article.id == pk) for pk in ("en-returns", "pl-sizes")
    )
    citations = [{"n": 1, "url": returns.url}, {"n": 2, "url": sizes.url}, {"n": 3, "url": "https://other.example"}]
    assert cited_articles({"reply": "So [2].", "citations": citations}) == {"pl-sizes"}
    assert cited_articles({"reply": "So.", "citations": citations}) == {"en-returns", "pl-sizes"}
    assert cited_articles({"reply": None, "citations": None}) == frozenset()


def test_the_edge_is_read_from_the_escalation_or_the_trace():
    assert edge_of({"escalation": {"id": "1", "edge": "anger"}}) == "anger"
    trace = [{"step": "screened", "detail": {}}, {"step": "decided", "detail": {"edge": "low-confidence"}}]
    assert edge_of({"escalation": "1", "trace": trace}) == "low-confidence"
    assert edge_of({"escalation": "1", "trace": [], "outcome": "withheld", "reason": "shadow"}) == "shadow"
    assert edge_of({"escalation": None, "trace": None, "outcome": "answered", "reason": "none"}) == ""
