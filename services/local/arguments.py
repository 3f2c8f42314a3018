"""What one may type after `talowa`: commands, their arguments, their help."""

import argparse
import re
from collections.abc import Callable
from typing import Final, NoReturn, get_args

from libs.wire.events import LEVELS, PRIORITIES
from libs.wire.names import is_id
from services.local.issuer import DEFAULT_TTL_S
from services.local.people import RoleName

_LONGEST_TTL_S: Final = 366 * 24 * 3600
_MOST_TOKENS: Final = 1_000_000
_OWED_DAYS: Final = 7
_DEFAULT_DATABASE: Final = "(default)"
_PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_DATABASE: Final = re.compile(r"[a-z][a-z0-9-]{2,61}[a-z0-9]")
_LONGEST_OWED_DAYS: Final = 36_500

_OVERVIEW: Final = """\
A messaging cluster on this machine, and what one needs to try it out.

  talowa up                          the whole cluster, until Ctrl-C
  talowa chat asha --to ravi         write to ravi as asha (both are created)
  talowa token asha ravi             a sign-in token for each, created if need be
"""
_SETTINGS: Final = """\
Settings are environment variables:
  DATA_DIR=.local        store, broker, keys and logs; the same for all commands
  GATEWAYS=2 ROUTERS=2   how many of each `talowa up` runs
  WEBSOCKET_PORT=3001    the first gateway's port; WEBSOCKET_HOST=127.0.0.1
  REDIS_URL              a broker to use instead of the embedded one
  LOG_LEVEL=info         debug, info, warning or error

`talowa COMMAND --help` says more of each.
"""
_ABOUT_UP: Final = """\
Starts a broker, the store, routers, presence and gateways as processes of their own, prints where
each one listens and logs, and then `ready`. One that dies is started again. Ctrl-C (or SIGTERM)
drains and stops everything within 15 s.

examples:
  talowa up
  GATEWAYS=3 ROUTERS=1 WEBSOCKET_PORT=4001 DATA_DIR=/tmp/trial talowa up
  REDIS_URL=redis://127.0.0.1:6379 talowa up
"""
_ABOUT_TOKENS: Final = """\
Creates the users, or updates those that exist with what is given here, and prints one token a line.
Tokens are signed by the local issuer: they are good for clusters on the same DATA_DIR only.

examples:
  talowa token asha
  talowa token asha --name "Asha Rao" --role coordinator --village v12 --mandal m3
  talowa token --count 10000 --prefix load- > tokens.txt      load-1 to load-10000
"""
_ABOUT_IMPORT: Final = """\
Creates or updates users and groups from a JSON file. Doing it twice changes nothing more. If an entry
is wrong, it is named and nothing is imported.

{"users":  [{"id": "asha", "name": "Asha Rao", "role": "coordinator", "disabled": false,
             "blocked": ["kiran"], "location": {"stateId": "TS", "districtId": "d1", "mandalId": "m3",
             "villageId": "v12"}}],
 "groups": [{"id": "v12", "name": "Village 12", "members": ["asha", "ravi"]}]}

Only `id` is required of a user, `id` and `members` of a group. `fullName` is read where `name` is absent.
"""
_ABOUT_MOVING: Final = """\
Looks through users, groups, conversations and messages of a Firestore project and says what would not fit, with a few
ids of each. That writes nothing, and costs a read for each document. With --fill it then gives the messages of the
server before this one their conversation and their seq, in the order of their time, and notes who has them: the two of
a direct conversation are owed what was not delivered (deliveryStatus) in the last days, groups nothing. Interrupted,
it goes on where it was. No cluster may write to the project meanwhile; a conversation to which one wrote is left alone.

examples:
  talowa import-firestore my-project-1a2b3
  talowa import-firestore my-project-1a2b3 --fill --owed-days 30
"""
_ABOUT_CHAT: Final = """\
A terminal client. It signs in as USER (created if need be), shows what comes in, and sends what is
typed, a message a line. Behind each line: … on its way, ✓ stored, ✓✓ on a device, ✓✓ read. Without
--to and --group, lines go to whoever writes first. /quit or end of input leaves.

examples:
  talowa chat asha --to ravi
  talowa chat ravi --to asha --url http://127.0.0.1:3002      on the second gateway
  talowa chat asha --group v12
  echo "the meeting is at six" | talowa chat asha --group v12
"""
_ABOUT_STATUS: Final = """\
What runs, on which ports, whether it is ready; who is online, on which gateway; rates, and the lag of each
partition. On a terminal it is shown live, every second, until Ctrl-C; with --once, or where its output goes
elsewhere, it is printed once. Exits with 1 if anything is not ready.
"""
_ABOUT_STOP: Final = """\
The gateway takes nobody new, and sends its clients to others within DRAIN_WINDOW_S. `talowa start` brings it
back. G is its name in `talowa status`, such as g1.
"""
_ABOUT_START: Final = """\
A gateway that was stopped takes sockets again. Those that it had not closed yet stay.
"""
_ABOUT_REBALANCE: Final = """\
Gateways that have more than their share of the sockets send some to the others, slowly: after a new gateway has
come, say. Prints how many each has too many. Nothing is done where all are within a tenth of the mean.
"""
_ABOUT_REVOKE: Final = """\
Every sign-in of USER from before now is void: their sockets are closed, on all gateways, and their tokens and
resume tickets are refused.
"""
_ABOUT_BROADCAST: Final = """\
Warns everyone who lives in some places: at once who is online, the others when they sign in. Prints the
broadcast's id, and how many it is for. The same words for the same places within five minutes are the same
broadcast. --tally shows how far one has come, place by place.

examples:
  talowa broadcast --village v12 --village v13 "Flood" "Go to the school on the hill."
  talowa broadcast --district d1 --priority critical "Flood" "Go to higher ground."
  talowa broadcast --tally 5d41402abc4b2a76b9719d911017c592
"""
_ABOUT_TRACE: Final = """\
Where the message of this id (`messageId` in what clients are answered) is, how it got there, and who has it. Of the
last hour with times, as long as the ledger goes back (LEDGER_S); of older ones what the record has.

example:
  talowa trace 3f1c6f1ed002ab5595859014ebf0951522d9
"""
_ABOUT_LEDGER: Final = """\
How it stands with all messages of the last hour. Exits with 1 if one is not accounted for.
"""
_ABOUT_OPERATORS: Final = """\
Prints the token that opens the operators' routes on the internal ports.

example:
  curl -H "Authorization: Bearer $(talowa admin-token)" http://127.0.0.1:PORT/status
"""


class Parser(argparse.ArgumentParser):
    """Says what to do when the arguments are wrong."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on; exits with 2."""
        self.exit(2, f"{self.prog}: {message}\nSee `{self.prog} --help` for what it takes, with examples.\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command and its arguments. Exits with 2 if they are wrong."""
    parser = Parser(
        prog="talowa", description=_OVERVIEW, epilog=_SETTINGS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add(commands, "up", "run the whole cluster until Ctrl-C", _ABOUT_UP)
    token = _add(commands, "token", "create users and print a sign-in token for each", _ABOUT_TOKENS)
    _add_token(token)
    importing = _add(commands, "import", "create or update users and groups from a JSON file", _ABOUT_IMPORT)
    importing.add_argument("file", metavar="FILE.json", help="the file")
    moving = _add(
        commands, "import-firestore", "check an existing project, and give its messages places", _ABOUT_MOVING
    )
    _add_moving(moving)
    chat = _add(commands, "chat", "write and read messages in this terminal", _ABOUT_CHAT)
    chat.add_argument("user", metavar="USER", type=_id, help="who you are")
    whom = chat.add_mutually_exclusive_group()
    whom.add_argument("--to", metavar="USER", type=_id, help="write to this user (created if need be)")
    whom.add_argument("--group", metavar="G", type=_id, help="write to this group (created and joined if need be)")
    chat.add_argument("--url", type=_url, help="the gateway (default: the first one of the cluster on DATA_DIR)")
    status = _add(commands, "status", "what runs, who is online, and how far behind it is", _ABOUT_STATUS)
    status.add_argument("--once", action="store_true", help="print it once")
    for name, summary, about in (
        ("stop", "drain a gateway", _ABOUT_STOP),
        ("start", "have a gateway take sockets again", _ABOUT_START),
    ):
        _add(commands, name, summary, about).add_argument("gateway", metavar="G", help="the gateway's name")
    _add(commands, "rebalance", "spread sockets evenly over the gateways", _ABOUT_REBALANCE)
    revoke = _add(commands, "revoke", "make every sign-in of a user void", _ABOUT_REVOKE)
    revoke.add_argument("user", metavar="USER", type=_id, help="the user's id")
    broadcast = _add(commands, "broadcast", "warn everyone in villages, mandals, districts or states", _ABOUT_BROADCAST)
    _add_broadcast(broadcast)
    trace = _add(commands, "trace", "where one message is, and how it got there", _ABOUT_TRACE)
    trace.add_argument("message", metavar="MESSAGE", help="its id")
    _add(commands, "ledger", "how it stands with all messages of the last hour", _ABOUT_LEDGER)
    _add(commands, "admin-token", "print the operators' token", _ABOUT_OPERATORS)
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.error(f"say what to do: {', '.join(commands.choices)}.")
    if given.command == "token":
        _check_token(token, given)
    if given.command == "broadcast":
        _check_broadcast(broadcast, given)
    return given


def _add(
    commands: "argparse._SubParsersAction[Parser]",  # the class has no public name
    name: str,
    summary: str,
    description: str,
) -> Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_token(token: Parser) -> None:
    token.add_argument("users", metavar="USER", nargs="*", type=_id, help="user ids")
    token.add_argument("--count", metavar="N", type=_between(1, _MOST_TOKENS), help="make N users, P1 to PN")
    token.add_argument("--prefix", metavar="P", type=_id, help="what the ids of --count begin with")
    token.add_argument("--name", help="their name (a new user's is otherwise the id)")
    token.add_argument("--role", choices=get_args(RoleName), help="their role, in the store and in the token")
    for place in ("state", "district", "mandal", "village"):
        token.add_argument(f"--{place}", metavar="ID", help=f"the id of their {place}")
    token.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=_between(1, _LONGEST_TTL_S),
        default=DEFAULT_TTL_S,
        help=f"how long the tokens live (default {DEFAULT_TTL_S})",
    )


def _add_moving(moving: Parser) -> None:
    moving.add_argument("project", metavar="PROJECT", type=_project, help="the project's id, as in its console")
    moving.add_argument("--database", metavar="D", type=_database, default=_DEFAULT_DATABASE, help="the database in it")
    moving.add_argument("--emulator", metavar="HOST:PORT", help="an emulator to ask instead of Google")
    moving.add_argument("--fill", action="store_true", help="write: conversationId, seq, and who has what")
    moving.add_argument(
        "--owed-days",
        metavar="N",
        type=_between(0, _LONGEST_OWED_DAYS),
        default=_OWED_DAYS,
        help=f"what is older is owed to nobody (default {_OWED_DAYS})",
    )


def _add_broadcast(broadcast: Parser) -> None:
    broadcast.add_argument("title", metavar="TITLE", nargs="?", help="the title")
    broadcast.add_argument("text", metavar="TEXT", nargs="?", help="the text")
    where = broadcast.add_mutually_exclusive_group()
    for level in reversed(LEVELS):
        where.add_argument(
            f"--{level}", metavar="ID", type=_id, action="append", default=[], help=f"a {level}; may be repeated"
        )
    broadcast.add_argument("--priority", choices=PRIORITIES, default="high", help="how urgent it is (default high)")
    where.add_argument("--tally", metavar="ID", type=_id, help="how far this broadcast has come")


def _check_broadcast(parser: Parser, given: argparse.Namespace) -> None:
    if given.tally is not None:
        if given.title is not None:
            parser.error("--tally goes alone, as in: talowa broadcast --tally ID")
    elif given.text is None or not any(getattr(given, level) for level in LEVELS):
        parser.error('say where and what, as in: talowa broadcast --village v12 "Flood" "Go to the school."')


def _check_token(parser: Parser, given: argparse.Namespace) -> None:
    if (given.count is None) != (given.prefix is None):
        parser.error("--count and --prefix go together, as in: talowa token --count 100 --prefix load-")
    if not given.users and given.count is None:
        parser.error("name a user, as in: talowa token asha; or many, as in: talowa token --count 100 --prefix load-")
    if given.count is not None and not is_id(f"{given.prefix}{given.count}"):
        parser.error(f"--prefix {given.prefix!r} makes ids that are too long: 128 characters are the most.")


def _id(text: str) -> str:
    if not is_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id: 1 to 128 characters, no colon, no space.")
    return text


def _project(text: str) -> str:
    if _PROJECT.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a project, such as my-project-1a2b3.")
    return text


def _database(text: str) -> str:
    if text != _DEFAULT_DATABASE and _DATABASE.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a database, such as {_DEFAULT_DATABASE} or chat.")
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://", "ws://", "wss://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of a gateway, such as http://127.0.0.1:3001.")
    return text


def _between(lowest: int, highest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {lowest} to {highest}.")
        return int(text)

    return number
