"""`manage.py simulate`: customers of the demo shop, over HTTP, as any other client of the API would come."""

import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.demo import content
from agents.demo.content import Message, Profile
from agents.demo.scoreboard import TO_A_PERSON, Figures, Result, figures, sentence, table
from agents.demo.traffic import Visit, plan

TERMINAL = frozenset({"answered", "clarified", "escalated", "refused", "withheld", "failed"})
GOES_ON = frozenset({"answered", "clarified", "refused"})
WRONG_SETUP = frozenset({401, 403, 404})
POLL_S = 0.3
BROKEN_LINE_S = 1.0
LONGEST_PAUSE_S = 30
CITED = re.compile(r"\[(\d{1,2})\]")


class Misdirected(Exception):
    """The API refuses every turn of this run: wrong address, key, agent or channel."""


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    key: str
    agent: str
    channel: str
    patience_s: float = 90.0


class Customers:
    """Plays a plan against the API. Turns of a case follow one another; cases overlap up to `concurrency`."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, run: str, concurrency: int) -> None:
        self._session = session
        self._target = target
        self._run = run
        self._places = asyncio.Semaphore(concurrency)

    async def knock(self) -> None:
        """:raises Misdirected: nobody is there."""
        try:
            async with self._session.get("/healthz") as response:
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Misdirected(f"no Pilothouse answers there ({error}). Start it with bin/up, or give --url.") from error

    async def play(self, profile: Profile, visits: Sequence[Visit]) -> list[Result]:
        started = time.monotonic()
        heard = await asyncio.gather(*(self._visit(profile, visit, started) for visit in visits))
        return [result for results in heard for result in results]

    async def _visit(self, profile: Profile, visit: Visit, started: float) -> list[Result]:
        """Says one message after another, until done or the case has gone to a person: then a customer waits."""
        await asyncio.sleep(max(0.0, started + visit.at - time.monotonic()))
        ref = f"sim-{self._run}-{profile}-{visit.number}"
        results: list[Result] = []
        async with self._places:
            for number, message in enumerate(visit.messages, start=1):
                results.append(await self._say(profile, visit, ref, number, message))
                if results[-1].outcome not in GOES_ON:
                    break
        return results

    async def _say(self, profile: Profile, visit: Visit, ref: str, number: int, message: Message) -> Result:
        started = time.monotonic()
        try:
            turn = await self._turn(ref, number, message.text)
        except (aiohttp.ClientError, TimeoutError) as error:
            turn = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
        return Result(
            profile=profile,
            conversation=visit.conversation,
            kind=visit.kind,
            text=message.text,
            acceptable=message.outcomes,
            expected=message.articles,
            outcome=turn["outcome"],
            cited=cited_articles(turn),
            edge=edge_of(turn),
            seconds=time.monotonic() - started,
            cost_usd=Decimal(str(turn.get("cost_usd") or 0)),
            turn=str(turn.get("id", "")),
            note=str(turn.get("reason") or ""),
        )

    async def _turn(self, ref: str, number: int, text: str) -> Mapping[str, Any]:
        """The turn in its terminal outcome. :raises TimeoutError: it has none after `patience_s`."""
        body = {"agent": self._target.agent, "channel": self._target.channel, "case": ref, "message": text}
        async with asyncio.timeout(self._target.patience_s):
            turn = await self._post(body, f"{ref}-{number}")
            while turn.get("outcome") not in TERMINAL:
                await asyncio.sleep(POLL_S)
                turn = await self._get(str(turn["id"]))
        return turn

    async def _post(self, body: Mapping[str, str], idempotency_key: str) -> Mapping[str, Any]:
        """Tries again, under the same idempotency key, while the line breaks or the API asks to wait a little."""
        headers = {"Idempotency-Key": idempotency_key, "Prefer": "wait=20"}
        while True:
            try:
                async with self._session.post("/api/v1/turns", json=body, headers=headers) as response:
                    pause = _retry_after(response)
                    if pause is None:
                        return await _read(response)
            except aiohttp.ClientConnectionError:
                pause = BROKEN_LINE_S
            await asyncio.sleep(pause)

    async def _get(self, pk: str) -> Mapping[str, Any]:
        async with self._session.get(f"/api/v1/turns/{pk}") as response:
            return await _read(response)


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """A turn; an error of this one message becomes a failed turn. :raises Misdirected: nothing will ever work."""
    try:
        body = await response.json(content_type=None)
    except ValueError:
        body = {}
    if response.ok and isinstance(body, dict) and "outcome" in body:
        return body
    error = body.get("error", {}) if isinstance(body, dict) else {}
    said = f"{response.status} {error.get('code', '')}: {error.get('message', 'not an answer of this API')}"
    if response.status in WRONG_SETUP or (response.ok and "outcome" not in body):
        raise Misdirected(said)
    return {"outcome": "failed", "reason": said}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds to wait where waiting helps: too many requests, a restart, the same request still at work."""
    if response.status not in {409, 429, 503} or "Retry-After" not in response.headers:
        return None
    said = response.headers["Retry-After"]
    return float(said) if said.isdecimal() and int(said) <= LONGEST_PAUSE_S else None


def cited_articles(turn: Mapping[str, Any]) -> frozenset[str]:
    """Ids of the articles that the reply cites by `[n]`; of all citations where the reply has no such marks."""
    ids = {article.url: article.id for article in content.articles()}
    citations = [citation for citation in turn.get("citations") or () if isinstance(citation, Mapping)]
    marks = {int(mark) for mark in CITED.findall(str(turn.get("reply") or ""))}
    marked = [citation for citation in citations if citation.get("n") in marks] or citations
    return frozenset(ids[citation["url"]] for citation in marked if citation.get("url") in ids)


def edge_of(turn: Mapping[str, Any]) -> str:
    """The edge that decided: from the escalation, from the trace, or as the reason of a turn that hides its trace."""
    escalation = turn.get("escalation")
    if isinstance(escalation, Mapping) and escalation.get("edge"):
        return str(escalation["edge"])
    for step in turn.get("trace") or ():
        detail = step.get("detail") if isinstance(step, Mapping) else None
        if isinstance(detail, Mapping) and detail.get("edge"):
            return str(detail["edge"])
    return str(turn.get("reason") or "") if turn.get("outcome") in TO_A_PERSON else ""


class Command(BaseCommand):
    help = "Sends the demo's customers to a running Pilothouse and shows what became of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--profile", choices=[*content.PROFILES, "all"], default="all")
        parser.add_argument("--turns", type=_positive, default=100, help="messages per profile (default 100)")
        parser.add_argument("--seed", type=int, default=1, help="same seed, same messages in the same order")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: this machine, port 8000")
        parser.add_argument("--key", default=os.environ.get("PILOTHOUSE_API_KEY", ""), help="or PILOTHOUSE_API_KEY")
        parser.add_argument("--agent", default=content.agent().slug)
        parser.add_argument("--channel", default=content.agent().channels[0].slug)
        parser.add_argument("--concurrency", type=_positive, default=16, help="customers at a time (default 16)")
        parser.add_argument("--rate", type=float, default=10.0, help="messages a second, on average (default 10)")
        parser.add_argument("--wrong", action="store_true", help="list the turns with a wrong outcome or source")
        parser.add_argument("--json", action="store_true", help="figures for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        target = _target(options)
        profiles = content.PROFILES if options["profile"] == "all" else (options["profile"],)
        try:
            columns = asyncio.run(self._simulate(target, profiles, options))
        except Misdirected as error:
            raise CommandError(f"{target.url}: {error}") from error
        self._print(columns, options)

    async def _simulate(
        self, target: Target, profiles: Sequence[Profile], options: Mapping[str, Any]
    ) -> dict[str, Figures]:
        run = secrets.token_hex(3)
        headers = {"Authorization": f"Bearer {target.key}"}
        timeout = aiohttp.ClientTimeout(total=target.patience_s, connect=5)
        columns: dict[str, Figures] = {}
        async with aiohttp.ClientSession(target.url, headers=headers, timeout=timeout) as session:
            customers = Customers(session, target, run, options["concurrency"])
            await customers.knock()
            for profile in profiles:
                visits = plan(profile, options["turns"], options["seed"], options["rate"])
                if not options["json"]:
                    self.stderr.write(f"{profile}: {options['turns']} messages of {len(visits)} customers …")
                results = await customers.play(profile, visits)
                columns[profile] = figures(results, unsent=options["turns"] - len(results))
        return columns

    def _print(self, columns: Mapping[str, Figures], options: Mapping[str, Any]) -> None:
        if options["json"]:
            seen = {profile: each.as_json() for profile, each in columns.items()}
            said = {"seed": options["seed"], "profiles": seen, "sentence": sentence(columns)}
            self.stdout.write(json.dumps(said, ensure_ascii=False, indent=2))
            return
        self.stdout.write(f"\n{table(columns)}\n\n{sentence(columns)}")
        if options["wrong"]:
            for profile, each in columns.items():
                self.stdout.write("\n".join(_line(profile, turn) for turn in each.wrong_turns))


def _target(options: Mapping[str, Any]) -> Target:
    """:raises CommandError: no key, or an address that is none."""
    if not options["key"]:
        raise CommandError("No API key: set PILOTHOUSE_API_KEY or give --key. bin/up prints one on its first start.")
    if not re.fullmatch(r"https?://[^/\s]+/?", options["url"]):
        raise CommandError(f"--url {options['url']}: expected http://host:port without a path.")
    if options["rate"] <= 0:
        raise CommandError("--rate must be more than 0.")
    return Target(options["url"], options["key"], options["agent"], options["channel"])


def _line(profile: str, turn: Mapping[str, Any]) -> str:
    wanted, why = " or ".join(turn["acceptable"]), turn["edge"] or turn["note"]
    if turn["outcome"] in turn["acceptable"]:
        wanted, why = " or ".join(turn["expected"]), f"cites {', '.join(turn['cited']) or 'nothing'}"
    said = " ".join(turn["text"].split())[:90]
    return f"{profile:<10}  {turn['outcome']:<9}  wanted {wanted}  {why}  {said!r}  {turn['turn']}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
