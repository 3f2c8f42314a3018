"""Who gets a frame, through which gateway, in which order: properties of `plan`."""

from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from libs.wire.frames import Answer, Emit, Section, SignedOut
from services.router import routing
from services.router.routing import Saying, ToSeats, ToSession, ToUsers

USERS = [f"user{n}" for n in range(6)]
GATEWAYS = [f"g{n}" for n in range(4)]
PARTITIONS = range(3)
TOKENS = {partition: 1000 + partition for partition in PARTITIONS}

seats_of_all = st.dictionaries(
    st.sampled_from(USERS), st.lists(st.sampled_from(GATEWAYS), min_size=1, unique=True).map(tuple)
)


@st.composite
def some_sayings(draw: st.DrawFn) -> list[Saying]:
    """Sayings that are told apart by their number: the event's name, or the socket's."""
    sayings: list[Saying] = []
    for number in range(draw(st.integers(0, 12))):
        partition = draw(st.sampled_from(PARTITIONS))
        if draw(st.booleans()):
            frame = Answer(str(number), 1, b"{}")
            sayings.append(ToSession(partition, draw(st.sampled_from(GATEWAYS)), frame))
        else:
            users = tuple(draw(st.lists(st.sampled_from(USERS), unique=True)))
            skip = draw(st.none() | st.just("socket"))
            sayings.append(ToUsers(partition, users, str(number), b"{}", "group:g", number, skip))
    return sayings


def _emits(sections: Iterable[Section]) -> Iterator[tuple[int, Emit]]:
    for section in sections:
        yield from ((section.partition, frame) for frame in section.frames if isinstance(frame, Emit))


def _number(frame: object) -> int:
    assert isinstance(frame, Emit | Answer)
    return int(frame.event if isinstance(frame, Emit) else frame.session)


@given(some_sayings(), seats_of_all)
def test_everyone_who_is_seated_is_told_once_on_each_gateway_and_nobody_else(
    sayings: list[Saying], seats: dict[str, tuple[str, ...]]
) -> None:
    """Each (saying, user, gateway) is there exactly if the saying is for the user, who has a seat there."""
    planned = routing.plan(sayings, seats, TOKENS)
    told = [
        (_number(frame), user, gateway)
        for gateway, sections in planned.items()
        for _, frame in _emits(sections)
        for user in frame.users
    ]
    wanted = {
        (number, user, gateway)
        for number, saying in enumerate(sayings)
        if isinstance(saying, ToUsers)
        for user in saying.users
        for gateway in seats.get(user, ())
    }
    assert len(told) == len(set(told))
    assert set(told) == wanted


@given(some_sayings(), seats_of_all)
def test_a_socket_is_told_through_its_own_gateway(sayings: list[Saying], seats: dict[str, tuple[str, ...]]) -> None:
    """Answers need no seat: they say themselves where they go."""
    planned = routing.plan(sayings, seats, TOKENS)
    told = {
        (_number(frame), gateway)
        for gateway, sections in planned.items()
        for section in sections
        for frame in section.frames
        if isinstance(frame, Answer)
    }
    assert told == {(number, saying.gateway) for number, saying in enumerate(sayings) if isinstance(saying, ToSession)}


@given(some_sayings(), seats_of_all)
def test_a_gateway_nobody_is_spoken_to_on_gets_nothing(
    sayings: list[Saying], seats: dict[str, tuple[str, ...]]
) -> None:
    """Every entry costs a write: there is none without a frame, and no frame without a user."""
    planned = routing.plan(sayings, seats, TOKENS)
    through = {gateway for of_user in seats.values() for gateway in of_user}
    assert planned.keys() <= through | {saying.gateway for saying in sayings if isinstance(saying, ToSession)}
    assert all(sections and all(section.frames for section in sections) for sections in planned.values())
    assert all(frame.users for sections in planned.values() for _, frame in _emits(sections))


@given(some_sayings(), seats_of_all)
def test_what_is_said_first_comes_first(sayings: list[Saying], seats: dict[str, tuple[str, ...]]) -> None:
    """For each gateway and partition the frames stand in the order of the sayings."""
    for sections in routing.plan(sayings, seats, TOKENS).values():
        for section in sections:
            numbers = [_number(frame) for frame in section.frames]
            assert numbers == sorted(set(numbers))


@given(some_sayings(), seats_of_all)
def test_each_section_is_under_the_token_of_its_partition(
    sayings: list[Saying], seats: dict[str, tuple[str, ...]]
) -> None:
    """One section a partition and gateway, and in it only what that partition's owner says."""
    for sections in routing.plan(sayings, seats, TOKENS).values():
        assert len({section.partition for section in sections}) == len(sections)
        for section in sections:
            assert section.token == TOKENS[section.partition]
            assert {sayings[_number(frame)].partition for frame in section.frames} == {section.partition}


@given(some_sayings(), seats_of_all)
def test_what_is_said_is_carried_unchanged(sayings: list[Saying], seats: dict[str, tuple[str, ...]]) -> None:
    """The body, the place that is to be confirmed, and the socket that is left out."""
    for sections in routing.plan(sayings, seats, TOKENS).values():
        for _, frame in _emits(sections):
            saying = sayings[_number(frame)]
            assert isinstance(saying, ToUsers)
            assert (frame.body, frame.conversation_id, frame.seq, frame.skip_session) == (
                saying.body,
                saying.conversation_id,
                saying.seq,
                saying.skip_session,
            )


@given(some_sayings())
def test_the_audience_is_everyone_who_is_spoken_to_by_name(sayings: list[Saying]) -> None:
    """Who is not located gets nothing, so everyone has to be."""
    assert routing.audience(sayings) == {u for s in sayings if isinstance(s, ToUsers) for u in s.users}


def test_a_body_is_carried_once_to_each_gateway() -> None:
    """Users of one gateway share a frame: that is what keeps a large group cheap."""
    body = b"x" * 1000
    saying = ToUsers(0, tuple(USERS), "new_message", body)
    planned = routing.plan([saying], dict.fromkeys(USERS, ("g0", "g1")), TOKENS)
    assert planned == {
        gateway: (Section(0, TOKENS[0], (Emit(tuple(USERS), "new_message", body),)),) for gateway in ("g0", "g1")
    }


@given(seats_of_all, st.sampled_from(USERS))
def test_a_frame_for_a_users_seats_goes_to_each_of_their_gateways_once(
    seats: dict[str, tuple[str, ...]], user: str
) -> None:
    """And to no other; in line with what is said to their sockets."""
    frame = SignedOut(user, "token_revoked", 5000)
    sayings: list[Saying] = [ToSession(0, "g0", Answer("0")), ToSeats(0, user, frame)]
    planned = routing.plan(sayings, seats, TOKENS)
    told = {gateway: section.frames for gateway, (section,) in planned.items()}
    assert routing.audience(sayings) == {user}
    assert told.pop("g0")[1:] == ((frame,) if "g0" in seats.get(user, ()) else ())
    assert told == {gateway: (frame,) for gateway in seats.get(user, ()) if gateway != "g0"}


def test_to_how_many_a_message_is_said_is_counted_by_its_place() -> None:
    """What has no place is no message."""
    sayings: list[Saying] = [
        ToUsers(1, ("asha", "bala"), "new_message", b"", "group:g", 7),
        ToUsers(1, ("asha",), "message_delivery_status", b""),
        ToUsers(1, (), "new_message", b"", "group:h", 1),
    ]
    assert routing.told(sayings) == {("group:g", 7): 2, ("group:h", 1): 0}
