"""Who gets a frame now, and through which gateway. Pure.

`plan` turns what is to be said (to a socket, or to users wherever they are) into frames per gateway,
in the order it was said. Who has no seat gets nothing now: a message stays due, and anything else is told
again by asking. Whether a gateway is alive is not asked: one that revives is seated before its sessions ask
what is due, so what is located must be said; a dead one's downlink is cleared away with its seats.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
from msgspec import Struct

from libs.wire.frames import Downlink, Emit, Section, TypingNotice


class ToSession(Struct, frozen=True):
    """Say this to one socket."""

    partition: int
    gateway: str
    frame: Downlink
    # It would tell who wrote anonymously.
    is_sealed: bool = False


class ToUsers(Struct, frozen=True):
    """Say this on every device of these users, but on one socket. With a `seq` it is to be confirmed."""

    partition: int
    users: tuple[str, ...]
    event: str
    body: bytes
    conversation_id: str = ""
    seq: int = 0
    skip_session: str | None = None
    is_sealed: bool = False


class ToReaders(Struct, frozen=True):
    """Tell these users that somebody types, or stopped; `notice` is without them."""

    partition: int
    users: tuple[str, ...]
    notice: TypingNotice


class ToSeats(Struct, frozen=True):
    """Hand this to every gateway that a user is on."""

    partition: int
    user_id: str
    frame: Downlink


Saying = ToSession | ToUsers | ToReaders | ToSeats


def audience(sayings: Iterable[Saying]) -> set[str]:
    """Everyone who has to be located before `plan`."""
    found: set[str] = set()
    for saying in sayings:
        match saying:
            case ToUsers(users=users) | ToReaders(users=users):
                found.update(users)
            case ToSeats(user_id=user_id):
                found.add(user_id)
    return found


Seal = Callable[[Downlink], Downlink]


def no_seal(frame: Downlink) -> Downlink:
    """Where nothing is sealed, nothing asks for it: what does would otherwise tell who wrote anonymously."""
    raise ValueError(f"no key to seal this {type(frame).__name__}")


def plan(
    sayings: Iterable[Saying],
    seats: Mapping[str, Collection[str]],
    tokens: Mapping[int, int],
    seal: Seal = no_seal,
) -> dict[str, tuple[Section, ...]]:
    """The sections for each gateway: one a partition, under that partition's token. `seal` hides what must be."""
    frames: dict[str, dict[int, list[Downlink]]] = {}
    for saying in sayings:
        match saying:
            case ToSession(partition, gateway, frame):
                said = seal(frame) if saying.is_sealed else frame
                frames.setdefault(gateway, {}).setdefault(partition, []).append(said)
            case ToSeats(partition, user_id, frame):
                for gateway in seats.get(user_id, ()):
                    frames.setdefault(gateway, {}).setdefault(partition, []).append(frame)
            case ToUsers(partition):
                for gateway, users in _by_gateway(saying.users, seats).items():
                    emit = Emit(
                        tuple(users),
                        saying.event,
                        saying.body,
                        saying.conversation_id,
                        saying.seq,
                        saying.skip_session,
                    )
                    said = seal(emit) if saying.is_sealed else emit
                    frames.setdefault(gateway, {}).setdefault(partition, []).append(said)
            case ToReaders(partition, readers, notice):
                for gateway, users in _by_gateway(readers, seats).items():
                    told = msgspec.structs.replace(notice, users=tuple(users))
                    frames.setdefault(gateway, {}).setdefault(partition, []).append(told)
    return {
        gateway: tuple(Section(partition, tokens[partition], tuple(said)) for partition, said in partitions.items())
        for gateway, partitions in frames.items()
    }


def _by_gateway(users: Iterable[str], seats: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    by_gateway: dict[str, list[str]] = {}
    for user in users:
        for gateway in seats.get(user, ()):
            by_gateway.setdefault(gateway, []).append(user)
    return by_gateway
