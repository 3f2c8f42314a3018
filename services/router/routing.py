"""Who gets a frame now, and through which gateway. Pure.

`plan` turns what is to be said (to a socket, or to users wherever they are) into frames per gateway,
in the order it was said. Who has no seat gets nothing now: a message stays due, and anything else is told
again by asking. Whether a gateway is alive is not asked: one that revives is seated before its sessions ask
what is due, so what is located must be said; a dead one's downlink is cleared away with its seats.
"""

from collections import defaultdict
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
    mark: int = 0
    trace: str = ""


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


def told(sayings: Iterable[Saying]) -> dict[tuple[str, int], int]:
    """To how many users each message is said, by its place."""
    return {
        (saying.conversation_id, saying.seq): len(saying.users)
        for saying in sayings
        if isinstance(saying, ToUsers) and saying.seq
    }


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
    frames: defaultdict[str, defaultdict[int, list[Downlink]]] = defaultdict(_new_sections)
    for saying in sayings:
        partition = saying.partition
        match saying:
            case ToUsers():
                for gateway, users in _by_gateway(saying.users, seats):
                    emit = Emit(
                        users,
                        saying.event,
                        saying.body,
                        saying.conversation_id,
                        saying.seq,
                        saying.skip_session,
                        saying.mark,
                        saying.trace,
                    )
                    frames[gateway][partition].append(seal(emit) if saying.is_sealed else emit)
            case ToSession():
                said = seal(saying.frame) if saying.is_sealed else saying.frame
                frames[saying.gateway][partition].append(said)
            case ToSeats():
                for gateway in seats.get(saying.user_id, ()):
                    frames[gateway][partition].append(saying.frame)
            case ToReaders():
                for gateway, users in _by_gateway(saying.users, seats):
                    told = msgspec.structs.replace(saying.notice, users=users)
                    frames[gateway][partition].append(told)
    return {
        gateway: tuple(Section(partition, tokens[partition], tuple(said)) for partition, said in sections.items())
        for gateway, sections in frames.items()
    }


def _new_sections() -> defaultdict[int, list[Downlink]]:
    return defaultdict(list)


def _by_gateway(users: tuple[str, ...], seats: Mapping[str, Collection[str]]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Whom to tell through which gateway."""
    if len(users) == 1:  # as with all that is said in direct conversations
        return [(gateway, users) for gateway in seats.get(users[0], ())]
    by_gateway: defaultdict[str, list[str]] = defaultdict(list)
    for user in users:
        for gateway in seats.get(user, ()):
            by_gateway[gateway].append(user)
    return [(gateway, tuple(of_gateway)) for gateway, of_gateway in by_gateway.items()]
