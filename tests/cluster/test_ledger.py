"""Where each message is: traced by its id, summed up, and compared with the store while things go wrong."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
from rich.console import Console

from libs import keys
from libs.wire import names
from services.local import state as states
from services.local import trace
from services.local.keyring import Keyring
from tests.support.clients import Client, JsClients, PythonClient
from tests.support.cluster import LiveCluster, lasting_cluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived, steady_traffic
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ENVIRONMENT: Final = {"LEDGER_SETTLE_S": "0.2", "LOG_LEVEL": "debug"}
_SOON_S: Final = 20.0
_STATIONS: Final = ["take", "read", "decide", "save", "publish"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for the tests in which nothing dies; each has people of its own."""
    async with lasting_cluster(tmp_path_factory.mktemp("cluster"), environment=_ENVIRONMENT) as running:
        yield running


# --- one message -----------------------------------------------------------------------------------


async def test_a_direct_message_is_traced_through_its_stations(cluster: LiveCluster) -> None:
    """Times in order, the gateways, who has it since when; and no content."""
    await cluster.people(["d.asha", "d.ravi"])
    async with _client(cluster, "d.asha") as asha, _client(cluster, "d.ravi", gateway=1):
        sent = await asha.send_message({"recipientId": "d.ravi", "content": "sixty quintals", "clientId": "d1"})
        traced = await _traced(cluster, sent["messageId"], delivered=1)
    assert (traced["conversationId"], traced["seq"]) == ("direct:d.asha:d.ravi", 1)
    assert (traced["state"], traced["type"], traced["isAnonymous"]) == ("saved", "text", False)
    assert traced["gateway"].startswith("g1")
    assert [station["station"] for station in traced["stations"]] == _STATIONS
    # All clocks are this machine's.
    times = [station["at"] for station in traced["stations"] if station["station"] != "decide"]
    assert times == sorted(times)
    assert sent["serverTime"] in [station["at"] for station in traced["stations"]]
    (ravi,) = traced["people"]
    assert (ravi["userId"], ravi["state"]) == ("d.ravi", "delivered")
    assert ravi["confirmedAt"] >= times[0]
    assert ravi["gateway"].startswith("g2")
    assert traced["recipients"] == _counts(total=1, delivered=1)
    assert "quintals" not in str(traced)
    for gateway in ("g1", "g2"):
        assert await cluster.get(gateway, f"/ledger/{sent['messageId']}") == traced


async def test_what_is_due_is_delivered_after_a_sign_in(cluster: LiveCluster) -> None:
    """To two of a group at once, to the third when she comes."""
    await cluster.people([], {"s.team": ["s.asha", "s.bala", "s.chitra"]})
    await cluster.people(["s.asha", "s.bala", "s.chitra"])
    async with _client(cluster, "s.asha") as asha, _client(cluster, "s.bala", gateway=1):
        sent = await asha.send_message({"groupId": "s.team", "content": "at six", "clientId": "s1"})
        traced = await _traced(cluster, sent["messageId"], delivered=1)
        assert {one["userId"]: one["state"] for one in traced["people"]} == {"s.bala": "delivered", "s.chitra": "due"}
        assert traced["recipients"] == _counts(total=2, delivered=1, due=1)
        async with _client(cluster, "s.chitra", gateway=1):
            traced = await _traced(cluster, sent["messageId"], delivered=2)
    assert [one["gateway"][:2] for one in traced["people"]] == ["g2", "g2"]
    assert traced["recipients"] == _counts(total=2, delivered=2)


async def test_who_left_the_group_is_refused_with_the_reason(cluster: LiveCluster) -> None:
    """They were meant when it was sent; now it is due to them no more."""
    await cluster.people(["l.asha", "l.bala", "l.chitra"], {"l.team": ["l.asha", "l.bala", "l.chitra"]})
    async with _client(cluster, "l.asha") as asha:
        sent = await asha.send_message({"groupId": "l.team", "content": "at six", "clientId": "l1"})
        await _traced(cluster, sent["messageId"], due=2)
        await cluster.people([], {"l.team": ["l.asha", "l.bala"]})
        traced = await _traced(cluster, sent["messageId"], refused=1)
    assert traced["recipients"] == _counts(total=2, due=1, refused=1)
    assert [(one["userId"], one["state"], one.get("reason")) for one in traced["people"]] == [
        ("l.bala", "due", None),
        ("l.chitra", "refused", "left"),
    ]


async def test_ids_that_name_no_message_are_refused(cluster: LiveCluster) -> None:
    """400 for what is no id, 404 for one that nobody was given; operators only."""
    sent = names.message_id("nobody", "never", "direct:a:b")
    for path, code in (("m1", "invalid_payload"), (sent, "not_found"), (f"{sent}0", "invalid_payload")):
        assert (await cluster.get("g1", f"/ledger/{path}"))["error"]["code"] == code


async def test_a_message_older_than_the_ledger_is_told_without_times(cluster: LiveCluster) -> None:
    """The record says where it stands and who has it."""
    await cluster.people(["o.asha", "o.ravi"])
    async with _client(cluster, "o.asha") as asha:
        sent = await asha.send_message({"recipientId": "o.ravi", "content": "x", "clientId": "o1"})
        await _traced(cluster, sent["messageId"], due=1)
        partition = names.partition_of(sent["conversationId"], 16)
        await cluster.broker.command("XTRIM", keys.ledger(partition), "MAXLEN", "=", 0)
        traced = await cluster.get("g1", f"/ledger/{sent['messageId']}")
    assert (traced["state"], traced["stations"], traced["gateway"]) == ("saved", [], None)
    assert traced["people"] == [{"userId": "o.ravi", "state": "due"}]


async def test_an_anonymous_sender_stays_anonymous(cluster: LiveCluster) -> None:
    """In what is told, in the ledger itself, and in the logs: no author, nor what gives them away by elimination."""
    me, members = "z.hidden", ["z.hidden", "z.bala", "z.ravi"]
    await cluster.people(members, {"z.team": members})
    async with (
        _client(cluster, me, gateway=0) as asha,
        _client(cluster, "z.ravi", gateway=1) as ravi,
        _client(cluster, "z.bala", gateway=1),
    ):
        hidden = {"content": "x", "isAnonymous": True}
        direct = await asha.send_message({**hidden, "recipientId": "z.ravi", "clientId": "z1"})
        group = await asha.send_message({**hidden, "groupId": "z.team", "clientId": "z2"})
        of_direct = await _traced(cluster, direct["messageId"], delivered=1)
        of_group = await _traced(cluster, group["messageId"], delivered=3)
        # Who confirms by id, or says what they have, may be the author.
        for client in (asha, ravi):
            await client.emit("message_delivered", {"messageId": direct["messageId"]})
            await client.emit("mark_as_read", {"messageId": direct["messageId"]})
            await client.emit("mark_as_read", {"conversationId": direct["conversationId"], "seq": 1})
        reply = await asha.send_message({**hidden, "conversationId": direct["conversationId"], "clientId": "z3"})
        await _traced(cluster, reply["messageId"], delivered=1)
        of_direct = await cluster.get("g1", f"/ledger/{direct['messageId']}")
    assert names.is_pseudonymous(of_direct["conversationId"])
    assert of_direct["people"] == [{**of_direct["people"][0], "userId": "z.ravi", "state": "delivered"}]
    assert "gateway" not in of_direct["people"][0]
    assert [of_direct["gateway"], of_group["gateway"]] == [None, None]
    assert [station["station"] for station in of_direct["stations"]] == _STATIONS[1:]
    assert of_group["recipients"] == _counts(total=3, delivered=3), "the author is one of them"
    assert (of_group["people"], of_group["hasMore"]) == ([], True)
    assert me not in str((of_direct, of_group))
    lines = [
        line
        for partition in range(16)
        for _, fields in await cluster.broker.command("XRANGE", keys.ledger(partition), "-", "+")
        for line in (*fields.keys(), *fields.values())
    ]
    assert any(b"group:z.team" in line for line in lines)
    assert any(of_direct["conversationId"].encode() in line for line in lines)
    assert [line for line in lines if me.encode() in line] == []
    assert [line for line in cluster.logs().splitlines() if me in line] == []


# --- all of them -----------------------------------------------------------------------------------


async def test_sums_are_exact_at_rest(cluster: LiveCluster) -> None:
    """Each recipient in one state; nothing in flight; nothing that nobody can account for."""
    before = await _at_rest(cluster)
    people = ["a.asha", "a.bala", "a.chitra", "a.away"]
    await cluster.people(people, {"a.team": people})
    async with _client(cluster, "a.asha") as asha, _client(cluster, "a.bala", gateway=1), _client(cluster, "a.chitra"):
        for number in range(10):
            await asha.send_message({"groupId": "a.team", "content": "x", "clientId": f"g{number}"})
            await asha.send_message({"recipientId": "a.bala", "content": "x", "clientId": f"d{number}"})
            await asha.send_message({"recipientId": "a.away", "content": "x", "clientId": f"w{number}"})

        async def is_confirmed() -> dict[str, Any] | None:
            sums = await _at_rest(cluster)
            return sums if sums["delivered"] - before["delivered"] == 30 else None

        after = await until(is_confirmed, _SOON_S, "all to be confirmed")
    grown = {name: after[name] - before[name] for name in after}
    assert {name: grown[name] for name in ("accepted", "saved", "inFlight", "unaccounted", "abandoned")} == {
        "accepted": 30,
        "saved": 30,
        "inFlight": 0,
        "unaccounted": 0,
        "abandoned": 0,
    }
    assert {name: grown[name] for name in ("recipients", "delivered", "due", "expired", "refused")} == {
        "recipients": 50,
        "delivered": 30,
        "due": 20,
        "expired": 0,
        "refused": 0,
    }

    async def is_in_status() -> bool:
        status = await cluster.status()
        return (status["unaccounted"], status["inFlight"]) == (0, 0)

    await until(is_in_status, _SOON_S, "the status to say so")
    lately = await cluster.get("g2", "/ledger?seconds=3600")
    assert lately == after
    assert (await cluster.get("g1", "/ledger?seconds=soon"))["error"]["code"] == "invalid_payload"


async def test_the_terminal_shows_a_message_in_one_screen(cluster: LiveCluster) -> None:
    """Stations, counts, people; sums; and a refusal in words."""
    await cluster.people(["t.asha", "t.ravi"])
    async with _client(cluster, "t.asha") as asha, _client(cluster, "t.ravi", gateway=1):
        sent = await asha.send_message({"recipientId": "t.ravi", "content": "x", "clientId": "t1"})
        await _traced(cluster, sent["messageId"], delivered=1)
    state = states.read(cluster.home)
    assert state is not None
    token, said = Keyring(cluster.home).admin_token(), StringIO()
    console = Console(file=said, width=120, highlight=False)
    assert await trace.show_message(state, token, sent["messageId"], console)
    assert await trace.show_sums(state, token, console)
    text = said.getvalue()
    assert len(text.splitlines()) < 40
    for word in ("direct:t.asha:t.ravi", *_STATIONS, "delivered 1", "t.ravi", "unaccounted 0"):
        assert word in text, text


# --- while things go wrong --------------------------------------------------------------------------


async def test_with_the_store_away_messages_are_in_flight_and_then_accounted_for(tmp_path: Path) -> None:
    """`queued` is in flight; saved once the store is back. Neither is a loss."""
    async with live_cluster(tmp_path, environment=_ENVIRONMENT) as cluster:
        await cluster.people(["asha", "ravi"])
        async with _client(cluster, "asha") as asha:
            await asha.send_message({"recipientId": "ravi", "content": "x", "clientId": "first"})
            with cluster.store_away() as is_readable:
                answer = await asha.send_message({"recipientId": "ravi", "content": "x", "clientId": "second"})
                assert answer["status"] == "queued"

                async def is_in_flight() -> bool:
                    status = await cluster.status()
                    return (status["inFlight"], status["unaccounted"]) == (1, 0)

                await until(is_in_flight, _SOON_S, "it to be in flight")
                traced = await cluster.get("g1", f"/ledger/{answer['messageId']}")
                if is_readable:
                    assert (traced["state"], traced["seq"]) == ("in_flight", 2)
                    assert [station["station"] for station in traced["stations"]] == ["decide"]
                    assert (await cluster.get("g1", "/ledger"))["inFlight"] == 1
                else:
                    assert traced["error"]["code"] == "unavailable"
            traced = await _traced(cluster, answer["messageId"], due=1)
            assert [station["station"] for station in traced["stations"]] == [
                "take",
                "read",
                "decide",
                "save",
                "publish",
            ]
        sums = await _at_rest(cluster)
        assert (sums["accepted"], sums["saved"], sums["unaccounted"]) == (2, 2, 0)


async def test_a_router_killed_under_traffic_leaves_nothing_unaccounted(tmp_path: Path) -> None:
    """Its successor goes on from where the audit was, and comes out at zero."""
    history = History()
    async with live_cluster(tmp_path, environment=_ENVIRONMENT) as cluster, JsClients(history) as js:
        people = ("asha", "bala", "chitra")
        await cluster.people([*people, "away"], {"sangham": [*people, "away"]})
        clients = [await js.open(f"{p}1", cluster.urls, {"token": cluster.token(p)}, user=p) for p in people]
        for client in clients:
            await client.wait_for("auth_success")
        lanes = [Lane(clients[0], {"recipientId": "bala"}), Lane(clients[1], {"groupId": "sangham"})]
        async with steady_traffic(lanes) as traffic:
            await traffic.wait_flows()
            cluster.processes.kill("r1", signal.SIGKILL)
            await traffic.wait_flows()
            cluster.processes.kill("r2", signal.SIGKILL)
            await traffic.wait_flows()
        report = await arrived(
            history, {"group:sangham": ("asha1", "bala1", "chitra1"), "direct:asha:bala": ("asha1", "bala1")}
        )
        assert report.ok, report
        for_who_is_away = await _messages(cluster, "group:sangham")

        async def are_confirmed() -> Any:
            sums = await _at_rest(cluster)
            return sums if sums["due"] == for_who_is_away else None

        sums = await until(are_confirmed, 20.0, "what devices have to be confirmed")
        assert (sums["unaccounted"], sums["inFlight"], sums["abandoned"]) == (0, 0, 0)
        assert sums["recipients"] == sums["delivered"] + sums["due"]
        assert sums["accepted"] == sums["saved"] == await _messages(cluster)


async def test_a_wiped_broker_starts_the_ledger_anew(tmp_path: Path) -> None:
    """Nothing that was there before is taken for lost."""
    async with live_cluster(tmp_path, environment=_ENVIRONMENT) as cluster:
        await cluster.people(["asha", "ravi"])
        async with _client(cluster, "asha") as asha, _client(cluster, "ravi", gateway=1):
            for number in range(5):
                await asha.send_message({"recipientId": "ravi", "content": "x", "clientId": f"before{number}"})
            await cluster.broker.command("FLUSHALL")
            sent = await asha.send_message({"recipientId": "ravi", "content": "x", "clientId": "after"})
            assert sent["seq"] == 6
            await _traced(cluster, sent["messageId"], delivered=1)
        sums = await _at_rest(cluster)
        assert (sums["accepted"], sums["saved"], sums["unaccounted"], sums["inFlight"]) == (1, 1, 0, 0)
        assert await _unaccounted(cluster) == 0


@pytest.mark.parametrize("mutant", ["xack_before_save", "forgets_a_member", "makes_no_member"])
async def test_a_router_that_breaks_a_promise_is_found_out(tmp_path: Path, mutant: str) -> None:
    """Acknowledging before the save and dying, forgetting a member, owing a message to nobody: not zero."""
    breaks = tmp_path / "broken"
    async with live_cluster(
        tmp_path,
        routers=1,
        environment={**_ENVIRONMENT, "MUTANT_FILE": str(breaks)},
        mutants={"r1": mutant},
    ) as cluster:
        people = ["asha", "bala", "chitra", "zara"]
        await cluster.people(people, {"team": people})
        async with _client(cluster, "asha") as asha, _client(cluster, "bala", gateway=1):
            whole = await asha.send_message({"groupId": "team", "content": "x", "clientId": "whole"})
            await _traced(cluster, whole["messageId"], delivered=1)
            assert await _unaccounted(cluster) == 0
            breaks.touch()
            target = {"recipientId": "chitra"} if mutant == "makes_no_member" else {"groupId": "team"}
            async with asyncio.timeout(_SOON_S), asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(asha.emit("send_message", {**target, "content": "x", "clientId": "broken"}))

                async def is_found() -> bool:
                    return await _unaccounted(cluster) > 0

                await until(is_found, _SOON_S, "the loss to be found out", despite=(aiohttp.ClientError,))
                sending.cancel()
        assert "a message is not accounted for" in cluster.logs()
        where = "direct:asha:chitra" if mutant == "makes_no_member" else "group:team"
        broken = names.message_id("asha", "broken", where)
        assert broken in cluster.logs()
        traced = await cluster.get("g1", f"/ledger/{broken}")
        assert (traced["state"], traced["conversationId"]) == ("unaccounted", where)
        assert (await cluster.get("g1", "/ledger"))["unaccounted"] == 1


# --- what the tests are made of ---------------------------------------------------------------------


@asynccontextmanager
async def _client(cluster: LiveCluster, user: str, *, gateway: int = 0) -> AsyncIterator[Client]:
    async with await PythonClient.open(
        History(), user, [cluster.urls[gateway]], {"token": cluster.token(user)}, user=user
    ) as client:
        await client.wait_for("auth_success")
        yield client


def _counts(**given: int) -> dict[str, int]:
    return {"total": 0, "delivered": 0, "due": 0, "expired": 0, "refused": 0, "unaccounted": 0} | given


async def _traced(cluster: LiveCluster, message_id: str, **counts: int) -> dict[str, Any]:
    """A message's trace, once its way is written down and its recipients stand so, with the time where one is told."""

    async def is_so() -> Any:
        found: dict[str, Any] = await cluster.get("g1", f"/ledger/{message_id}")
        is_complete = "publish" in str(found.get("stations"))
        is_so = all(found["recipients"][state] == count for state, count in counts.items()) if is_complete else False
        is_timed = all("confirmedAt" in one for one in found.get("people", ()) if one["state"] == "delivered")
        return found if is_so and is_timed else None

    traced: dict[str, Any] = await until(is_so, _SOON_S, f"the trace of {message_id} to show {counts}")
    return traced


async def _at_rest(cluster: LiveCluster) -> dict[str, Any]:
    """The sums, once nothing is in flight."""

    async def is_at_rest() -> Any:
        sums: dict[str, Any] = await cluster.get("g1", "/ledger")
        return sums if sums.get("inFlight") == 0 and sums["partitions"] == 16 else None

    rest: dict[str, Any] = await until(is_at_rest, _SOON_S, "nothing to be in flight", despite=(KeyError,))
    return rest


async def _unaccounted(cluster: LiveCluster) -> float:
    routers = [name for name in cluster.processes.names if re.fullmatch(r"r\d", name)]
    return sum([await cluster.metric(name, "talowa_unaccounted_messages") for name in routers])


async def _messages(cluster: LiveCluster, conversation_id: str = "") -> int:
    return sum(conversation_id in ("", where) for where, _ in await cluster.stored())
