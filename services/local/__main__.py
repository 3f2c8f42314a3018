"""`talowa`: the cluster on this machine, and what one needs to try it out."""

import argparse
import asyncio
import functools
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from libs import lifecycle
from libs.lifecycle import EXIT_CONFIG, Unstartable
from libs.settings import SettingsError, load
from libs.storage.firestore.settings import Limits, Place
from libs.telemetry import logs
from libs.wire.events import LEVELS
from services.local import broadcast, people, state, trace
from services.local.app import console, say, up
from services.local.arguments import parse
from services.local.auth import Emulated
from services.local.chat import CannotChat, Chat
from services.local.claim import make_home, taking_turns
from services.local.firestore import PROJECT
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.operators import CannotOperate, call, revoke_path
from services.local.people import BadFile, Location, UserEntry
from services.local.plan import socket_url
from services.local.settings import LocalSettings
from services.local.state import State
from services.local.status import is_alive, show_status, watch_status
from services.router.sqlite import open_store
from services.router.store import Registry, StoreAway

# Routers may be writing; a person would rather wait than be told to try again.
_STORE_PATIENCE_S = 30.0
_INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main() -> None:
    """The console script. Exits with 0, 1 (it could not be done), 2 (arguments) or 78 (settings)."""
    given = parse()
    try:
        settings = load(LocalSettings)
        logs.configure("local", given.command, settings.log_level if given.command == "up" else "warning")
        if given.command == "up":
            lifecycle.run(functools.partial(up, settings))
            return
        make_home(settings.home)
        sys.exit(asyncio.run(_COMMANDS[given.command](settings, given)))
    except (SettingsError, Unstartable) as error:
        print(f"talowa: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except (BadFile, CannotChat, CannotOperate) as error:
        print(f"talowa: {error}", file=sys.stderr)
        sys.exit(1)
    except StoreAway as error:
        where = "Firestore" if given.command == "import-firestore" else f"the store in {settings.database}"
        print(f"talowa: {where} is away ({error}). Try again.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


@asynccontextmanager
async def _store(settings: LocalSettings) -> AsyncIterator[Registry]:
    """The store of the cluster that runs, or the file of one that will."""
    running = state.read(settings.home)
    for process in running.processes if running is not None else ():
        if process.role == "store":
            # Here, for Google's libraries take a second, which no other command should wait for.
            from services.router import firestore  # noqa: PLC0415

            place = Place(PROJECT, emulator=f"{process.host}:{process.ports['store']}")
            async with firestore.open_store(place, Limits(patience_s=_STORE_PATIENCE_S, writes_per_s=0)) as emulated:
                yield emulated
            return
    if settings.store == "firestore":
        raise Unstartable("The Firestore emulator forgets everything at its end: begin with `make up STORE=firestore`.")
    with taking_turns(settings.home):
        async with open_store(settings.database, patience_s=_STORE_PATIENCE_S) as store:
            yield store


def _issuer(settings: LocalSettings) -> Issuer | Emulated:
    """Who gives the tokens that the cluster here believes."""
    running = state.read(settings.home)
    for process in running.processes if running is not None else ():
        if process.role == "auth":
            return Emulated(f"{process.host}:{process.ports['auth']}")
    return Issuer(Keyring(settings.home).signing_key())


async def _token(settings: LocalSettings, given: argparse.Namespace) -> int:
    ids = [*given.users, *(f"{given.prefix}{number}" for number in range(1, (given.count or 0) + 1))]
    location = Location(given.state, given.district, given.mandal, given.village)
    users = [UserEntry(uid, name=given.name, role=given.role, location=location) for uid in dict.fromkeys(ids)]
    async with _store(settings) as store:
        await people.put_users(store, users)
    issuer = _issuer(settings)
    for uid in ids:
        print(issuer.token(uid, given.role, given.ttl))
    return 0


async def _import(settings: LocalSettings, given: argparse.Namespace) -> int:
    file = people.read_file(Path(given.file))
    async with _store(settings) as store:
        await people.put_users(store, file.users)
        await people.put_groups(store, file.groups)
        strangers = await people.strangers(store, file.groups)
    where = settings.database if settings.store == "sqlite" else "the Firestore emulator"
    print(f"{len(file.users)} users and {len(file.groups)} groups are in {where}")
    if strangers:
        shown = ", ".join(strangers[:5]) + (", …" if len(strangers) > 5 else "")
        print(f"note: {len(strangers)} members of groups are no users yet: {shown}", file=sys.stderr)
    return 0


async def _import_firestore(settings: LocalSettings, given: argparse.Namespace) -> int:
    # Here, for Google's libraries take a second, which no other command should wait for.
    from services.local import moving  # noqa: PLC0415

    place = Place(given.project, given.database, given.emulator)
    file = settings.home / f"import-{given.project}-{given.database.strip('()')}.db"
    with taking_turns(settings.home):
        return await moving.move(place, file, console(), fills=given.fill, owed_days=given.owed_days)


async def _chat(settings: LocalSettings, given: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _store(settings) as store:
        await people.put_users(store, [UserEntry(uid) for uid in (given.user, given.to) if uid])
        if given.group and await people.join(store, given.group, given.user):
            say(f"· {given.user} is a member of {given.group} now")
    issuer = _issuer(settings)
    target = {"recipientId": given.to} if given.to else {"groupId": given.group} if given.group else {}
    chat = Chat(given.user, target, functools.partial(issuer.token, given.user), say)
    await chat.run(given.url or _first_gateway(settings), stop)
    return 0


def _first_gateway(settings: LocalSettings) -> str:
    """Of the cluster that runs on this DATA_DIR, on whatever port; else where one would be."""
    found = state.read(settings.home)
    for running in found.processes if found is not None else ():
        if running.role == "gateway":
            return socket_url(running.host, running.ports["socket"])
    return socket_url(settings.websocket_host, settings.websocket_port)


def _running(settings: LocalSettings) -> State:
    found = state.read(settings.home)
    if found is None:
        raise CannotOperate(f"nothing runs on DATA_DIR={settings.home}. Start a cluster with `talowa up`.")
    if not is_alive(found.supervisor):
        print(f"the `talowa up` of pid {found.supervisor} was killed; start it again.", file=sys.stderr)
    return found


async def _status(settings: LocalSettings, given: argparse.Namespace) -> int:
    found, admin_token, screen = _running(settings), Keyring(settings.home).admin_token(), console()
    if screen.is_terminal and not given.once:
        await watch_status(lambda: state.read(settings.home) or found, admin_token, screen)
    return 0 if await show_status(found, admin_token, screen) else 1


async def _stop(settings: LocalSettings, given: argparse.Namespace) -> int:
    return await _post(settings, "/stop", given.gateway)


async def _start(settings: LocalSettings, given: argparse.Namespace) -> int:
    return await _post(settings, "/start", given.gateway)


async def _rebalance(settings: LocalSettings, _: argparse.Namespace) -> int:
    return await _post(settings, "/rebalance")


async def _revoke(settings: LocalSettings, given: argparse.Namespace) -> int:
    return await _post(settings, revoke_path(given.user))


async def _post(settings: LocalSettings, path: str, gateway: str | None = None) -> int:
    token = Keyring(settings.home).admin_token()
    print(await call(_running(settings), token, "POST", path, gateway=gateway))
    return 0


async def _broadcast(settings: LocalSettings, given: argparse.Namespace) -> int:
    found = _running(settings)
    token = Keyring(settings.home).admin_token()
    if given.tally is not None:
        lines = await broadcast.tally(found, token, given.tally)
    else:
        level = next(level for level in LEVELS if getattr(given, level))
        lines = await broadcast.send(
            found,
            token,
            level=level,
            place_ids=getattr(given, level),
            priority=given.priority,
            title=given.title,
            text=given.text,
        )
    print("\n".join(lines))
    return 0


async def _trace(settings: LocalSettings, given: argparse.Namespace) -> int:
    token = Keyring(settings.home).admin_token()
    return 0 if await trace.show_message(_running(settings), token, given.message, console()) else 1


async def _ledger(settings: LocalSettings, _: argparse.Namespace) -> int:
    return 0 if await trace.show_sums(_running(settings), Keyring(settings.home).admin_token(), console()) else 1


async def _admin_token(settings: LocalSettings, _: argparse.Namespace) -> int:
    print(Keyring(settings.home).admin_token())
    return 0


_COMMANDS = {
    "token": _token,
    "import": _import,
    "import-firestore": _import_firestore,
    "chat": _chat,
    "status": _status,
    "broadcast": _broadcast,
    "stop": _stop,
    "start": _start,
    "rebalance": _rebalance,
    "revoke": _revoke,
    "trace": _trace,
    "ledger": _ledger,
    "admin-token": _admin_token,
}


if __name__ == "__main__":
    main()
