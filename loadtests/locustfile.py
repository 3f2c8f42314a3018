"""What people do on their phones, for locust. `make load` starts it; by hand, on one machine or many: see README.md.

    locust -f loadtests/locustfile.py --headless -u 2000 -r 50 -t 5m --processes 2 \\
        --host http://127.0.0.1:3001,http://127.0.0.1:3002 --tokens tokens.txt --rate 20

Each user is a person with a phone (`loadtests.people`). Their turns to write come at random and make `--rate` messages
a second together, whether or not answers come. Times are from the write of a frame to its arrival on the other phone's
socket, for they travel in the messages. When `--run-time` is over nobody writes any more, and the test ends once all
that was answered as sent has arrived, or after `--settle` seconds; then it exits with 1 if something has not.

Over 400 lines: locust loads one file, and finds people, options and what happens at the end in it.
"""

import random
import secrets
import sys
import time
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import STATE_RUNNING, LocalRunner, MasterRunner, Runner, WorkerRunner
from prometheus_client import CollectorRegistry, start_http_server

from libs.wire import names
from loadtests.people.ledger import Books, Ledger, Verdict
from loadtests.people.metrics import LocustMetrics
from loadtests.people.pace import Pace, per_writer
from loadtests.people.phone import Phone
from loadtests.people.summary import Failure, Row, Worker, summary
from loadtests.people.village import GROUP_SIZES, Village, kind, share

# What people write, from a few words to a few sentences: 1 to 3 bytes a letter.
_SAYINGS: Final = (
    "సరే",
    "గ్రామ సభ రేపు ఉదయం పదకొండు గంటలకు",
    "The surveyor comes on Tuesday. Bring the old receipts, all of them, and the map.",
    "పట్టా కాగితాలు మండల కార్యాలయంలో ఇచ్చాను. రెండు వారాల్లో సమాధానం వస్తుందని చెప్పారు. ఎవరైనా అడిగితే నాకు ఫోన్ చేయండి.",
)
_TYPES_FIRST: Final = 1 / 3
_TO_LARGE_GROUP: Final = 1 / 10
_LOOKS_EVERY_S: Final = 5.0
_WATCHES: Final = 20
# Of the time between two drops, how much of it a flaky phone is away: 2 to 9 s of a minute.
_AWAY: Final = (1 / 30, 3 / 20)
_PROGRESS_EVERY_S: Final = 10.0
_LOOPBACK: Final = "127.0.0.1"
_CLOCKS: Final = {"monotonic": time.monotonic, "wall": time.time}


class Crew:
    """The people that one worker plays, and what they share."""

    def __init__(self, environment: Environment, tokens: Sequence[str], index: int, shares: int) -> None:
        options = _options(environment)
        if not 0 <= index < shares:
            raise StopTest("There are more workers than the master expects. Start it with --expect-workers N.")
        self.village = Village(len(tokens))
        self.ledger = Ledger()
        self.per_writer = per_writer(options.rate, options.people, _WRITING)
        self.drops_every_s: float = options.drop_every
        self.warns_every_s: float = options.broadcast_every
        self.hushed = False
        self._clock = _CLOCKS[options.clock]
        self._run: str = options.run_id
        self._urls = str(environment.host).split(",")
        self._tokens = tokens
        self._free = share(self.village, index, shares)
        self._played = 0
        self._request = environment.events.request
        self._cpu_from_s = time.process_time()

    def phone(self, *, of_a_coordinator: bool) -> Phone:
        """The phone of somebody whom nobody plays yet."""
        if not self._free:
            raise StopTest(f"There are {len(self._tokens)} tokens: not enough people. Make more.")
        self._played += 1
        number = self._free.pop(0 if of_a_coordinator else -1)
        token = self._tokens[number - 1]
        return Phone(number, token, self._urls, self._run, ledger=self.ledger, notes=self, clock=self._clock)

    def note(self, what: str, name: str, seconds: float, size: int = 0, code: str | None = None) -> None:
        """Tell locust. What failed carries the server's code, never content."""
        self._request.fire(
            request_type=what,
            name=name,
            response_time=seconds * 1000,
            response_length=size,
            exception=code,
            context={},
        )

    def report(self) -> dict[str, Any]:
        """What the master wants to know every few seconds."""
        cpu_s = time.process_time() - self._cpu_from_s
        return self.ledger.take() | {"hushed": self.hushed, "people": self._played, "cpu_s": cpu_s}


class Person(User):
    """Somebody with a phone: signs in, confirms what comes, comes back by itself."""

    abstract = True
    crew: ClassVar[Crew]
    is_coordinator: ClassVar[bool] = False

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.luck = random.Random()
        self.phone = self.crew.phone(of_a_coordinator=self.is_coordinator)
        self.village = self.crew.village
        self.me = self.phone.number

    def on_start(self) -> None:
        """Switch the phone on; the first turn comes when its time is."""
        self.phone.start()
        self.wait()

    def on_stop(self) -> None:
        """Switch it off."""
        self.phone.stop()

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to be done now: no network, or the day is over."""
        return self.crew.hushed or not self.phone.is_in


class Writer(Person):
    """Somebody who writes: reads what came there, then sends."""

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._pace = Pace(self.crew.per_writer, time.monotonic(), self.luck)

    def wait_time(self) -> float:
        """Until the next turn."""
        return self._pace.wait_s(time.monotonic())

    def write_to(self, target: str, conversation_id: str) -> None:
        """Read the conversation, if there is something new, and send a message."""
        seq = self.phone.unread.pop(conversation_id, None)
        if seq is not None:
            self.phone.ask("mark_as_read", {"conversationId": conversation_id, "seq": seq}, "read", kind(target))
        self.phone.say(target, {"conversationId": conversation_id, "content": self.luck.choice(_SAYINGS)})

    def write_to_partner(self) -> None:
        """A direct message, sometimes with typing seen before it."""
        partner = self.village.person(self.village.partner(self.me))
        conversation_id = names.direct(self.village.person(self.me), partner)
        if self.luck.random() < _TYPES_FIRST:
            self.phone.ask("typing_start", {"conversationId": conversation_id}, "typing", "direct")
        self.write_to("d", conversation_id)


class Chatter(Writer):
    """Writes to one other person."""

    weight = 50

    @task
    def turn(self) -> None:
        """Types, reads, writes."""
        if not self.is_quiet:
            self.write_to_partner()


class GroupMember(Writer):
    """Writes to a group of 50, and now and then to one of 500."""

    weight = 15

    @task
    def turn(self) -> None:
        """Reads and writes."""
        if not self.is_quiet:
            small, large = GROUP_SIZES
            target = self.village.group(self.me, large if self.luck.random() < _TO_LARGE_GROUP else small)
            self.write_to(target, names.group(self.village.name(target)))


class FlakyPhone(Writer):
    """Writes like a chatter, and loses the network every minute without a word; what came meanwhile is due to it."""

    weight = 15

    def on_start(self) -> None:
        """Switch it on; it will drop."""
        self._coverage = gevent.spawn(self._lose_coverage)
        super().on_start()

    def on_stop(self) -> None:
        """Switch it off."""
        self._coverage.kill()
        super().on_stop()

    @task
    def turn(self) -> None:
        """Types, reads, writes."""
        if not self.is_quiet:
            self.write_to_partner()

    def _lose_coverage(self) -> None:
        every_s, silently = self.crew.drops_every_s, False
        gevent.sleep(self.luck.uniform(0, every_s))
        while not self.crew.hushed:
            self.phone.drop(every_s * self.luck.uniform(*_AWAY), silently=silently)
            silently = not silently
            gevent.sleep(every_s)


class Lurker(Person):
    """Only listens, and watches who of the neighbours is here."""

    weight = 20
    _watching_since = 0

    def wait_time(self) -> float:
        """A look now and then."""
        return _LOOKS_EVERY_S

    @task
    def look(self) -> None:
        """A subscription lives as long as its socket."""
        if self.is_quiet or self._watching_since == self.phone.sign_ins:
            return
        self._watching_since = self.phone.sign_ins
        size = self.village.size
        near = [self.village.person((self.me + step) % size + 1) for step in range(min(_WATCHES, size - 1))]
        self.phone.ask("subscribe_presence", {"userIds": near}, "presence", "subscribe")


class Coordinator(Person):
    """Warns one village after another."""

    fixed_count = 1
    is_coordinator = True
    _warned = 0

    def wait_time(self) -> float:
        """The same each time: the rate of broadcasts is part of the test."""
        return self.crew.warns_every_s

    @task
    def warn(self) -> None:
        """One emergency broadcast."""
        if self.is_quiet:
            return
        homes = self.village.homes()
        target = homes[self._warned % len(homes)]
        self._warned += 1
        place = {"locationLevel": "village", "locationIds": [self.village.name(target)], "priority": "high"}
        self.phone.warn(target, {"content": "గోదావరి పొంగింది. ఎత్తైన చోటికి వెళ్ళండి.", **place})


_WRITERS: Final = (Chatter, GroupMember, FlakyPhone)
_WRITING: Final = sum(each.weight for each in _WRITERS) / sum(each.weight for each in (*_WRITERS, Lurker))


class Day(LoadTestShape):
    """`-u` people come, at `-r` a second. After `-t` nobody writes; it is over once all has arrived, or in time."""

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self.verdict: Verdict | None = None
        self._books: Books | None = None
        self._workers: dict[str, dict[str, Any]] = {}
        self._evening_at: float | None = None
        self._told_at = 0.0

    def begin(self, village: Village) -> None:
        """New books."""
        self.verdict, self._evening_at, self._told_at = None, None, 0.0
        self._books, self._workers = Books(village), {}

    def enter(self, worker: str, report: dict[str, Any]) -> None:
        """What a worker reports."""
        if self._books is not None:
            self._books.add(worker, report)
            self._workers[worker] = report

    def workers(self) -> list[Worker]:
        """What they used, as far as they reported."""
        return [Worker(report["people"], report["cpu_s"]) for report in self._workers.values()]

    def tick(self) -> tuple[int, float] | None:
        """How many people there should be, asked once a second. None ends the test."""
        runner, books, now = self.runner, self._books, self.get_run_time()
        if runner is None:
            return None
        options = _options(runner.environment)
        people: int = options.num_users or 1
        if books is not None:
            if isinstance(runner, LocalRunner):
                self.enter("local", Person.crew.report())
            if runner.state == STATE_RUNNING:
                books.close()
            self._tell(runner, books, now)
            if options.run_time and now >= options.run_time and self._is_over(runner, books, people, now):
                self.verdict = books.judge(people)
                return None
        return people, options.spawn_rate or 1

    def _is_over(self, runner: Runner, books: Books, people: int, now: float) -> bool:
        if self._evening_at is None:
            self._evening_at = now
            runner.send_message("hush", None)
            return False
        heard = all(report["hushed"] for report in self._workers.values())
        settle_s: float = _options(runner.environment).settle
        return now > self._evening_at + settle_s or (heard and books.is_settled(people))

    def _tell(self, runner: Runner, books: Books, now: float) -> None:
        if now >= self._told_at + _PROGRESS_EVERY_S:
            self._told_at = now
            sys.stdout.write(f"{now:5.0f} s  {runner.user_count:,} people  {books.sent:,} messages sent\n")
            sys.stdout.flush()


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    for option, kind_of, default, words in (
        ("--tokens", str, "", "a file with a token a line: of load-1, load-2, …; at the same path on every machine"),
        ("--rate", float, 20.0, "messages a second, of all people together"),
        ("--drop-every", float, 60.0, "how often a flaky phone loses the network, in seconds"),
        ("--broadcast-every", float, 30.0, "how often the coordinator warns a village, in seconds"),
        ("--settle", float, 30.0, "how long to wait for what is on its way in the end, in seconds"),
    ):
        parser.add_argument(option, type=kind_of, default=default, help=words)
    parser.add_argument(
        "--clock",
        choices=sorted(_CLOCKS),
        default="monotonic",
        help="monotonic where all workers are on one machine; wall on several, whose clocks must agree",
    )
    parser.add_argument(
        "--metrics-port", type=int, default=0, help="where the master serves /metrics on 127.0.0.1; 0: nowhere"
    )
    # Set by the master when a test starts, and so known to its workers.
    parser.add_argument("--run-id", default="", help=SUPPRESS, include_in_web_ui=False)
    parser.add_argument("--people", type=int, default=0, help=SUPPRESS, include_in_web_ui=False)


@events.init.add_listener
def _listen(environment: Environment, runner: Runner, **_: object) -> None:
    options = _options(environment)
    if not isinstance(runner, WorkerRunner) and not (environment.host and Path(options.tokens).is_file()):
        sys.exit("--host names the gateways, and --tokens a file with people's tokens: see loadtests/README.md.")
    if options.metrics_port and not isinstance(runner, WorkerRunner):
        registry = CollectorRegistry()
        registry.register(LocustMetrics(environment))
        start_http_server(options.metrics_port, _LOOPBACK, registry)
    if not isinstance(runner, MasterRunner):
        runner.register_message("hush", _hush)


def _hush(**_: object) -> None:
    Person.crew.hushed = True


@events.test_start.add_listener
def _begin(environment: Environment, **_: object) -> None:
    """On the master first, whose options go to the workers with the first people to play."""
    options, runner, day = _options(environment), environment.runner, environment.shape_class
    tokens = Path(options.tokens).read_text(encoding="ascii").split()
    tokens = tokens[: len(tokens) // 2 * 2]  # everyone has a partner
    if runner is not None and not isinstance(runner, WorkerRunner):
        options.run_id, options.people = secrets.token_hex(3), runner.target_user_count
        if isinstance(day, Day):
            day.begin(Village(len(tokens)))
    if isinstance(runner, WorkerRunner):
        Person.crew = Crew(environment, tokens, runner.worker_index, options.expect_workers)
    elif isinstance(runner, LocalRunner):
        Person.crew = Crew(environment, tokens, 0, 1)


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - locust calls it by name
    if hasattr(Person, "crew"):
        data["crew"] = Person.crew.report()


@events.init.add_listener
def _hear_workers(environment: Environment, **_: object) -> None:
    def hear(client_id: str, data: dict[str, Any]) -> None:
        if "crew" in data and isinstance(environment.shape_class, Day):
            environment.shape_class.enter(client_id, data["crew"])

    environment.events.worker_report.add_listener(hear)


@events.quitting.add_listener
def _sum_up(environment: Environment, **_: object) -> None:
    day = environment.shape_class
    if isinstance(environment.runner, WorkerRunner) or not isinstance(day, Day):
        return
    stats = environment.stats
    rows = [
        Row(
            entry.method,
            entry.name,
            entry.num_requests,
            entry.num_failures,
            entry.get_response_time_percentile(0.5) or 0,
            entry.get_response_time_percentile(0.99) or 0,
            entry.max_response_time,
        )
        for entry in stats.entries.values()
    ]
    failures = [Failure(each.method, each.name, str(each.error), each.occurrences) for each in stats.errors.values()]
    sys.stdout.write(summary(rows, failures, day.verdict, day.workers(), day.get_run_time()))
    environment.process_exit_code = 0 if day.verdict is not None and day.verdict.is_good else 1


def _options(environment: Environment) -> Any:
    """What was said on the command line: locust's own type knows no names."""
    return environment.parsed_options
