"""Thousands of phones in one process: they sign in, write to each other at a set rate, acknowledge, and count.

    python -m loadtests.swarm --help      against a cluster that `make up` runs

    async with open_swarm() as swarm:
        await swarm.connect(people)
        sent = await swarm.send(letters, rate=800, seconds=8)

Raw frames over asyncio's transports, no task and no decoded JSON a socket, so that the client is not what is
measured; what it costs is told all the same. Messages leave on a schedule, whether or not those before were
answered. A message is known by its `clientId`, times are those of its write and of the read that brought it.
Only ever against this machine. One process may open 20,000 files; `loadtests.fleet` runs several.

Over 400 lines: a phone, the swarm and what they count share a socket's state, and each hot method is one call.
"""

import argparse
import asyncio
import errno
import gc
import ipaddress
import random
import secrets
import ssl
import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from libs.lifecycle import raise_file_limit
from libs.wire.payloads import Reconnect
from loadtests.letters import Letter, pairs
from loadtests.phone import Person, Phone
from loadtests.tallies import Sent, SignIns, lost
from loadtests.websocket import masked
from services.local import state
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import socket_url
from services.local.settings import LocalSettings
from services.router.sqlite import UserRow, open_store

# How a server says that one is signed in.
TALOWA: Final = b'42["auth_success"'
PLAIN: Final = b"40{"
_CONTENT: Final = "గ్రామ సభ రేపు ఉదయం పదకొండు గంటలకు".encode()
_SIGN_IN_S: Final = 30.0
_CLOSE_S: Final = 10.0
# All of 127/8 is this machine. An address has 28,000 ports, and Linux finds a free one the sooner, the fewer are taken:
# 40,000 connections took 4 s of CPU from 128 addresses, 14 from eight.
_SOURCES: Final = tuple(f"127.0.0.{number}" for number in range(1, 129))
# Nothing but pings for so long, and all is over.
_QUIET_S: Final = 0.5
# Messages in one turn of the loop when the schedule is behind: what came in is read between.
_BURST: Final = 16
# As socket.io-client comes back: after a second, twice that each time, at most five, give or take a half.
_BACK_S: Final = 1.0
_BACK_MAX_S: Final = 5.0
_reconnect: Final = msgspec.json.Decoder(tuple[str, Reconnect])


class Swarm:
    """Phones that share a process, and what they saw. `greeting` is how the servers say that one is signed in.

    With `tls` they reach their servers by it.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        greeting: bytes = TALOWA,
        sources: Sequence[str] = _SOURCES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.greeting = greeting
        self.phones: list[Phone] = []
        # Sockets that servers closed, by close code; 0 is none.
        self.closed: Counter[int] = Counter()
        self.heard = array("d")
        # Where a phone goes whose socket was closed under it; nowhere, unless this is set.
        self.back_to: Sequence[str] = ()
        # The share of phones that come back when `reconnect` says so; the others come by themselves.
        self.heeds = 0.0
        # When each came back, by `time.perf_counter`, and why tries to failed.
        self.returned = array("d")
        self.turned_away: Counter[str] = Counter()
        self._tasks = tasks
        self._sources = sources
        self._tls = tls
        self._next_source = 0
        self._mark = b'"clientId":"s%b-' % secrets.token_hex(4).encode()
        self._sent_at = array("d")
        self._owed = array("i")
        self._was_answered = bytearray()
        self._unanswered: dict[int, Letter] = {}
        self._first = 0
        self._times = array("d")
        self._sent = self._due = self._arrived = self._answered = 0
        self._late_s = 0.0
        self._refused: Counter[str] = Counter()
        self._busy_at = 0.0
        self._is_enough = False

    # --- signing in and out ------------------------------------------------------------------------

    async def connect(self, people: Sequence[Person], *, at_once: int = 50) -> SignIns:
        """Sign these in, `at_once` at the same time; they join who is there."""
        phones = [Phone(self, person) for person in people]
        self.phones += phones
        return await self._sign_all_in(phones, at_once)

    async def resume(self, *, at_once: int = 50) -> SignIns:
        """Sign in again, all who are out: with a ticket if they had one."""
        return await self._sign_all_in([phone for phone in self.phones if not phone.is_in], at_once)

    async def sign_out(self, phones: Sequence[Phone] | None = None) -> None:
        """Close these sockets, or all, and wait until they are."""
        leaving = [phone for phone in (self.phones if phones is None else phones) if phone.is_in]
        for phone in leaving:
            phone.sign_out()
        deadline = time.perf_counter() + _CLOSE_S
        await _until(lambda: not any(phone.is_in for phone in leaving) or time.perf_counter() > deadline)
        for phone in leaving:
            phone.hang_up()

    def hang_up(self) -> None:
        """Drop all sockets; nobody comes back."""
        self.back_to = ()
        for phone in self.phones:
            phone.is_leaving = True
            phone.hang_up()

    @property
    def own_cpu_s(self) -> float:
        """CPU seconds of this process."""
        return time.process_time()

    @property
    def came_back(self) -> int:
        """How many did, after a server closed their socket."""
        return len(self.returned)

    @property
    def signed_in(self) -> int:
        """How many are, now."""
        return sum(phone.is_in for phone in self.phones)

    # --- messages ------------------------------------------------------------------------------------

    async def send(self, letters: Sequence[Letter], rate: float, seconds: float, patience_s: float = 5.0) -> Sent:
        """Send `rate` messages a second, the letters over and over, and wait until all is quiet.

        What has not come when nothing has come for `patience_s` is missing.
        """
        own, began = time.process_time(), time.perf_counter()
        await self._post_all(letters, round(rate * seconds), rate)
        await self._settle(patience_s)
        owed = self._owed[self._first :]
        return Sent(
            sent=self._sent,
            answered=self._answered,
            refused=dict(self._refused),
            due=self._due,
            arrived=self._arrived,
            missing=sum(copies for copies in owed if copies > 0),
            lost=lost(owed, self._was_answered[self._first :]),
            doubled=-sum(copies for copies in owed if copies < 0),
            took_s=time.perf_counter() - began,
            late_ms=self._late_s * 1000,
            own_cpu_s=time.process_time() - own,
            times_ms=[each * 1000 for each in self._times],
        )

    def enough(self) -> None:
        """Whoever sends sends nothing more: what was sent so far is all."""
        self._is_enough = True

    async def _post_all(self, letters: Sequence[Letter], total: int, rate: float) -> None:
        self._begin(total, letters)
        began, number = time.perf_counter(), 0
        while number < total and not self._is_enough:
            passed_s = time.perf_counter() - began
            for each in range(number, min(total, number + _BURST, int(passed_s * rate) + 1)):
                self._late_s = max(self._late_s, passed_s - each / rate)
                self._unanswered[self._first + each] = letters[each % len(letters)]
                self._post(self._first + each)
                number = each + 1
            # The loop's timers know milliseconds.
            ahead_s = number / rate - (time.perf_counter() - began)
            await asyncio.sleep(0 if ahead_s < 0 else max(ahead_s, 0.001))
        self._cut(number, letters)

    def _begin(self, total: int, letters: Sequence[Letter]) -> None:
        copies = [letters[number % len(letters)].copies for number in range(total)]
        self._first = len(self._sent_at)
        self._sent_at.extend(0.0 for _ in range(total))
        self._owed.extend(copies)
        self._was_answered.extend(bytes(total))
        self._times = array("d")
        self._sent, self._due = total, sum(copies)
        self._is_enough = False
        self._arrived = self._answered = 0
        self._late_s = 0.0
        self._refused.clear()
        self._unanswered.clear()

    def _cut(self, number: int, letters: Sequence[Letter]) -> None:
        """Only so many were sent."""
        end = self._first + number
        del self._sent_at[end:], self._owed[end:], self._was_answered[end:]
        for left_over in [each for each in self._unanswered if each >= end]:
            del self._unanswered[left_over]
        self._sent = number
        self._due = sum(letters[each % len(letters)].copies for each in range(number))

    def _post(self, number: int) -> None:
        letter = self._unanswered[number]
        frame = masked(
            b'42%d["send_message",{%b%d","type":"text","content":"%b",%b}]'
            % (number, self._mark, number, _CONTENT, letter.to.encode())
        )
        self._sent_at[number] = self._sent_at[number] or time.perf_counter()
        phone = self.phones[letter.sender]
        if phone.is_in:  # else it is sent when it is back
            phone.write(frame)

    async def _settle(self, patience_s: float) -> None:
        def is_over() -> bool:
            is_done = not self._unanswered and self._arrived >= self._due
            return self._is_quiet(_QUIET_S if is_done else patience_s)

        self._busy_at = time.perf_counter()
        await _until(is_over)

    def _is_quiet(self, for_s: float) -> bool:
        return time.perf_counter() - self._busy_at > for_s

    # --- broadcasts ----------------------------------------------------------------------------------

    def expect(self) -> None:
        """From now on count the next broadcast."""
        self.heard = array("d")
        self._busy_at = time.perf_counter()

    async def wait_heard(self, patience_s: float = 5.0) -> list[float]:
        """When each heard it, by `time.perf_counter`, in order: waits for all, or `patience_s` after the last."""
        everyone = self.signed_in
        await _until(lambda: len(self.heard) >= everyone or self._is_quiet(patience_s))
        return list(self.heard)

    # --- what phones tell ----------------------------------------------------------------------------

    def event(self, phone: Phone, payload: bytes, start: int, now: float) -> None:
        """An event came: its name begins at `start`."""
        self._busy_at = now
        if payload.startswith(b'"new_message"', start):
            self._arrive(payload, now)
        elif payload.startswith(b'"emergency_broadcast"', start):
            self.heard.append(now)
        elif payload.startswith(b'"auth_success"', start):
            _, _, ticket = payload.partition(b'"resumeTicket":"')
            phone.ticket = ticket[: ticket.index(b'"')]
        elif payload.startswith(b'"offline_messages"', start):
            self._arrive(payload, now)
        elif payload.startswith(b'"reconnect"', start):
            _, told = _reconnect.decode(payload[start - 1 :])
            if random.random() < self.heeds:
                phone.back_at = now + told.after_ms / 1000
                phone.ticket = (told.resume_ticket or "").encode() or phone.ticket
        elif payload.startswith(b'"auth_failed"', start):
            phone.settle(_code(payload))

    def answer(self, payload: bytes, now: float) -> None:
        """A message was answered."""
        self._busy_at = now
        number = int(payload[2 : payload.index(b"[")])
        if self._unanswered.pop(number, None) is None:
            return
        if b'"ok":true' in payload:
            self._answered += 1
            self._was_answered[number] = True
        else:
            self._refused[_code(payload)] += 1

    def lost(self, phone: Phone) -> None:
        """A socket that was signed in is closed."""
        if phone.is_leaving:
            return
        self.closed[phone.code] += 1
        if self.back_to and not phone.is_dismissed:
            self._tasks.create_task(self._come_back(phone))

    def _arrive(self, payload: bytes, now: float) -> None:
        at = payload.find(self._mark)
        while at > 0:
            start = at + len(self._mark)
            number = int(payload[start : payload.index(b'"', start)])
            self._owed[number] -= 1
            if number >= self._first and self._owed[number] >= 0:
                self._arrived += 1
                self._times.append(now - self._sent_at[number])
            at = payload.find(self._mark, start)

    # --- connections ---------------------------------------------------------------------------------

    async def _sign_all_in(self, phones: Sequence[Phone], at_once: int) -> SignIns:
        began, own = time.perf_counter(), time.process_time()
        waiting = iter(phones)
        failed: Counter[str] = Counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(at_once, len(phones))):
                tasks.create_task(self._sign_each_in(waiting, failed))
        took_s, own_s = time.perf_counter() - began, time.process_time() - own
        # Thousands of sockets are here to stay: the collector need not look at them again.
        gc.collect()
        gc.freeze()
        return SignIns(len(phones) - failed.total(), dict(failed), took_s, own_s)

    async def _sign_each_in(self, phones: Iterator[Phone], failed: Counter[str]) -> None:
        for phone in phones:
            if why := await self._sign_in(phone):
                failed[why] += 1

    async def _sign_in(self, phone: Phone) -> str:
        phone.waiting = asyncio.get_running_loop().create_future()
        self._next_source += 1
        source = self._sources[self._next_source % len(self._sources)]
        host, port = _address(phone.person.url)
        try:
            async with asyncio.timeout(_SIGN_IN_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: phone, host, port, local_addr=(source, 0), ssl=self._tls
                )
                why = await phone.waiting
        except TimeoutError:
            why = "timeout"
        except OSError as error:
            why = errno.errorcode.get(error.errno or 0, "OSError")
        phone.waiting = None
        if why:
            phone.is_leaving = True  # if it was let in at the last moment, it is not lost once more
            phone.hang_up()
        return why

    async def _come_back(self, phone: Phone) -> None:
        """As a phone does: when it was told to, or later and later; to any address, as an ingress deals."""
        for attempt in range(1_000):
            delay_s = min(_BACK_S * 2**attempt, _BACK_MAX_S) * random.uniform(0.5, 1.5)
            if phone.back_at:
                delay_s, phone.back_at = max(0.0, phone.back_at - time.perf_counter()), 0.0
            await asyncio.sleep(delay_s)
            url = random.choice(self.back_to)
            phone.person = msgspec.structs.replace(phone.person, url=url)
            if why := await self._sign_in(phone):
                self.turned_away[why] += 1
                continue
            self.returned.append(time.perf_counter())
            self._post_again(phone)
            return

    def _post_again(self, phone: Phone) -> None:
        """What was not answered on the last socket: the same `clientId` is the same message."""
        for number in [each for each, letter in self._unanswered.items() if self.phones[letter.sender] is phone]:
            self._post(number)


@asynccontextmanager
async def open_swarm(
    greeting: bytes = TALOWA, sources: Sequence[str] = _SOURCES, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Swarm]:
    """A swarm of nobody yet; all hang up when the block ends."""
    raise_file_limit()
    async with asyncio.TaskGroup() as tasks:
        swarm = Swarm(tasks, greeting, sources, tls)
        try:
            yield swarm
        finally:
            swarm.hang_up()


async def _until(is_so: Callable[[], bool]) -> None:
    """Look every few milliseconds."""
    while not is_so():  # noqa: ASYNC110 - set by thousands of sockets, some 10,000 times a second
        await asyncio.sleep(0.01)


def _code(payload: bytes) -> str:
    _, _, code = payload.partition(b'"code":"')
    return code.partition(b'"')[0].decode() or "refused"


def _address(url: str) -> tuple[str, int]:
    """Host and port of a server on this machine. Raises `ValueError` for any other."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{url} is not on this machine: load goes to loopback only.")
    return host, parts.port or 80


async def _run(given: argparse.Namespace) -> None:
    settings = LocalSettings(data_dir=given.data_dir)
    if (cluster := state.read(settings.home)) is None:
        sys.exit(f"no cluster runs on {settings.home}: start one with `make up`, or name its DATA_DIR.")
    gateways = [running for running in cluster.processes if running.role == "gateway"]
    urls = given.url or [socket_url(gateway.host, gateway.ports["socket"]) for gateway in gateways]
    issuer = Issuer(Keyring(settings.home).signing_key())
    users = [f"swarm{number}" for number in range(given.sockets)]
    async with open_store(settings.database) as store:
        await store.put_users([UserRow(id=user, name=user) for user in users])
    people = [
        Person(user, urls[number % len(urls)], f'{{"token":"{issuer.token(user)}"}}')
        for number, user in enumerate(users)
    ]
    async with open_swarm() as swarm:
        signed_in = await swarm.connect(people, at_once=given.at_once)
        sys.stdout.write(f"{signed_in.summary}\n")
        if given.rate:
            sent = await swarm.send(pairs(people), given.rate, given.seconds)
            sys.stdout.write(f"{sent.summary}\n")
        else:
            await asyncio.sleep(given.seconds)
        closed = ", ".join(f"{count} with {code}" for code, count in swarm.closed.items()) or "none"
        sys.stdout.write(f"sockets closed by servers: {closed}\n")


def main() -> None:
    """Read the arguments, sign in, write, print."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nThe cluster's own limits hold here too: start it with `make up CONNECTS_PER_MINUTE=0 "
        "SIGN_INS_PER_MINUTE=0 TEXT_PER_MINUTE=100000` for more than a few hundred sockets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", default=".local", help="DATA_DIR of the cluster that runs (default .local)")
    parser.add_argument("--url", action="append", help="a gateway; several may be named (default: all that run)")
    parser.add_argument("--sockets", type=int, default=100, help="how many, each with a user of its own (default 100)")
    parser.add_argument("--at-once", type=int, default=50, help="sign in so many at a time (default 50)")
    parser.add_argument("--rate", type=float, default=50, help="direct messages a second; 0 to sit idle (default 50)")
    parser.add_argument("--seconds", type=float, default=10, help="for how long (default 10)")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
