"""A swarm signs in, writes, and counts what came of it, over real sockets."""

import asyncio
import time
from functools import partial

import pytest

from loadtests.fleet import blocks, open_fleet
from loadtests.letters import Letter, pairs
from loadtests.phone import Person
from loadtests.swarm import Swarm, open_swarm
from tests.support.waiting import until
from tests.unit.loadtests.conftest import Post


def _people(post: Post, count: int) -> list[Person]:
    return [Person(f"u{number}", post.url, f'{{"token":"u{number}"}}') for number in range(count)]


async def test_everything_sent_is_counted_once(post: Post) -> None:
    """Sent, answered, arrived, acknowledged, and a time for each."""
    people = _people(post, 4)
    async with open_swarm() as swarm:
        signed_in = await swarm.connect(people)
        sent = await swarm.send(pairs(people), rate=400, seconds=0.1)
        await until(lambda: post.acknowledged == 40, 5, "all acknowledgements")
    assert signed_in.signed_in == 4
    assert not signed_in.failed
    assert (sent.sent, sent.answered, sent.due, sent.arrived) == (40, 40, 40, 40)
    assert sent.is_whole
    assert len(sent.times_ms) == 40
    assert all(0 < each < 5000 for each in sent.times_ms)


async def test_what_does_not_come_is_missing(post: Post) -> None:
    """A message that was answered and not delivered, and one that was refused, with its code."""
    people = _people(post, 2)
    post.silent.add("u1")
    async with open_swarm() as swarm:
        await swarm.connect(people)
        letters = [*pairs(people), Letter(0, '"recipientId":"nobody"')]
        sent = await swarm.send(letters, rate=300, seconds=0.01, patience_s=0.2)
    assert (sent.sent, sent.answered, sent.arrived, sent.missing) == (3, 2, 1, 2)
    assert sent.refused == {"no_such_user": 1}
    assert not sent.is_whole


async def test_who_is_sent_away_is_counted_with_the_reason(post: Post) -> None:
    """A refused sign-in is no socket."""
    people = [*_people(post, 2), Person("x", post.url, '{"token":"stranger"}')]
    async with open_swarm() as swarm:
        signed_in = await swarm.connect(people)
        assert swarm.signed_in == 2
    assert (signed_in.signed_in, signed_in.failed) == (2, {"connect_error": 1})


async def test_a_broadcast_is_timed_on_every_socket(post: Post) -> None:
    """Each hears it once, in the order of the times."""
    async with open_swarm() as swarm:
        await swarm.connect(_people(post, 5))
        swarm.expect()
        await post.broadcast()
        heard = await swarm.wait_heard()
    assert len(heard) == 5
    assert heard == sorted(heard)


async def test_it_signs_out_and_in_again_with_its_tickets(post: Post) -> None:
    """The second time without a token; a socket that a phone closed itself is no loss."""
    async with open_swarm() as swarm:
        await swarm.connect(_people(post, 3))
        await swarm.sign_out(swarm.phones[:2])
        assert swarm.signed_in == 1
        await swarm.resume()
        assert swarm.signed_in == 3
        assert not swarm.closed
    assert post.sign_ins == ["token"] * 3 + ["resumeTicket"] * 2


async def test_who_is_closed_upon_comes_back(post: Post) -> None:
    """Where it was told to, with its ticket; the close code is counted."""
    async with open_swarm() as swarm:
        await swarm.connect(_people(post, 2))
        swarm.back_to = [post.url]
        await post.sockets["u0"].close(code=1012)
        await until(lambda: swarm.came_back == 1, 10, "the phone to come back")
        assert swarm.signed_in == 2
        assert swarm.closed == {1012: 1}


async def test_who_heeds_what_it_is_told_comes_back_then_with_that_ticket(post: Post) -> None:
    """Its own time would be half a second at the least; who does not heed it comes by itself."""
    async with open_swarm() as swarm:
        await swarm.connect(_people(post, 1))
        swarm.back_to, swarm.heeds = [post.url], 1.0
        for back in (1, 2):
            ticket = swarm.phones[0].ticket.decode()
            swarm.heeds = 2.0 - back
            told_at = time.perf_counter()
            await post.sockets[ticket].send_str('42["reconnect",{"afterMs":1700,"resumeTicket":"fresh"}]')
            await post.sockets[ticket].close(code=1012)
            await until(partial(_is_back, swarm, back), 10, "the phone to come back")
            assert swarm.returned[-1] - told_at >= (1.7 if back == 1 else 0.5)
            assert swarm.phones[0].ticket == b"fresh"
        assert swarm.closed == {1012: 2}
    assert post.sign_ins == ["token", "resumeTicket", "resumeTicket"]


def _is_back(swarm: Swarm, times: int) -> bool:
    return swarm.came_back == times


async def test_when_it_is_enough_what_was_sent_is_all(post: Post) -> None:
    """The books are of those alone, and the next ones begin where they end."""
    people = _people(post, 2)
    async with open_swarm() as swarm, asyncio.TaskGroup() as tasks:
        await swarm.connect(people)
        sending = tasks.create_task(swarm.send(pairs(people), rate=100, seconds=600))
        await until(lambda: post.acknowledged > 4, 10, "some to arrive")
        swarm.enough()
        sent = await sending
        assert 4 < sent.sent < 1000
        assert sent.is_whole
        again = await swarm.send(pairs(people), rate=100, seconds=0.1)
        assert (again.sent, again.is_whole) == (10, True)


async def test_what_was_not_answered_is_sent_again(post: Post) -> None:
    """A socket dies with a message on it: who comes back sends the same message, and it counts as one."""
    people = _people(post, 2)
    post.cursed.add("u1")
    async with open_swarm() as swarm:
        await swarm.connect(people)
        swarm.back_to = [post.url]
        sent = await swarm.send(pairs(people)[:1], rate=100, seconds=0.01)
        assert swarm.came_back == 1
    assert (sent.sent, sent.answered, sent.arrived, sent.is_whole) == (1, 1, 1, True)
    assert sent.times_ms[0] > 400


async def test_load_goes_to_this_machine_only() -> None:
    """Any other address is refused before a connection is tried."""
    async with open_swarm() as swarm:
        with pytest.raises(ExceptionGroup) as caught:
            await swarm.connect([Person("u0", "http://192.0.2.1:3001", "{}")])
    assert caught.group_contains(ValueError, match="not on this machine")


async def test_a_fleet_counts_as_one_swarm(post: Post) -> None:
    """Two processes, each with its block, and what they saw added up."""
    people = _people(post, 6)
    async with open_fleet(2) as fleet:
        signed_in = await fleet.connect(people)
        sent = await fleet.send(pairs(people), rate=300, seconds=0.1)
        await fleet.expect()
        await post.broadcast()
        heard = await fleet.wait_heard()
        figures = await fleet.figures()
    assert (signed_in.signed_in, figures.signed_in, len(heard)) == (6, 6, 6)
    assert (sent.sent, sent.arrived, sent.is_whole) == (30, 30, True)
    assert figures.own_cpu_s > 0


def test_neighbours_stay_in_one_block() -> None:
    """No pair is parted, and nobody is left out."""
    people = [Person(str(number), "", "") for number in range(7)]
    dealt = blocks(people, 3)
    assert [each for block in dealt for each in block] == people
    home = {person.uid: number for number, block in enumerate(dealt) for person in block}
    assert all(home[str(number)] == home[str(number + 1)] for number in range(0, 6, 2))
