"""Processes die, sleep and come back while people write to each other: nothing lost, doubled or out of order."""

import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest

from libs import keys
from libs.directory import Directory
from libs.wire import names
from tests.support.clients import Client, JsClient, JsClients
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import arrived, steady_traffic, tell
from tests.support.scene import Scene, scene_of
from tests.support.waiting import until

# What ARCHITECTURE promises.
_ROUTER_REPLACED_S: Final = 5.0
_GHOSTS_GONE_S: Final = 15.0
# Deadlines of what is not promised to the second; the machine may be busy.
_SOON_S: Final = 30.0
_STATUSES: Final = ("queued", "sent", "delivered", "read")

# A gateway that starts finds itself unknown, which counts as its first revival.
_BORN: Final = 1


# --- routers ---------------------------------------------------------------------------------------


async def test_a_killed_router_is_replaced_within_five_seconds_and_nothing_is_lost(tmp_path: Path) -> None:
    """Its partitions have another owner within 5 s; what it had taken is delivered once, in order."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        async with steady_traffic(scene.lanes) as traffic:
            cluster.processes.set_restarts("r1", False)
            owned = await until(lambda: _owned_by(cluster, "r1"), _SOON_S, "r1 to own partitions")
            began = time.monotonic()
            cluster.processes.kill("r1", signal.SIGKILL)
            await until(lambda: _all_owned_by(cluster, "r2", owned), _ROUTER_REPLACED_S, "new owners")
            tell(f"new owners after {time.monotonic() - began:.1f} s")
            await traffic.wait_flows()
            # A third router: partitions are handed over without a word lost, too.
            await cluster.processes.start("r1")
            await until(lambda: _owned_by(cluster, "r1"), _SOON_S, "the new router to own partitions")
            await traffic.wait_flows()
        await scene.judge()


async def test_a_router_that_sleeps_for_twenty_seconds_does_no_harm_when_it_wakes(tmp_path: Path) -> None:
    """Its partitions go to the other router; what it still writes on waking is refused; then it works again."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        async with steady_traffic(scene.lanes) as traffic:
            owned = await until(lambda: _owned_by(cluster, "r1"), _SOON_S, "r1 to own partitions")
            began = time.monotonic()
            cluster.processes.kill("r1", signal.SIGSTOP)
            await until(lambda: _all_owned_by(cluster, "r2", owned), _ROUTER_REPLACED_S, "new owners")
            tell(f"new owners after {time.monotonic() - began:.1f} s")
            await _passes(began + 20.0)
            cluster.processes.kill("r1", signal.SIGCONT)
            await until(lambda: _owned_by(cluster, "r1"), _SOON_S, "the router to own partitions again")
            fenced = [await cluster.metric(name, "talowa_gateway_fenced_sections_total") for name in ("g1", "g2")]
            lost = await cluster.metric("r1", "talowa_router_leases_lost_total")
            tell(f"sections fenced: {fenced}, leases lost: {lost}")
            assert lost >= len(owned)
            await traffic.wait_flows()
        await scene.judge()


# --- gateways --------------------------------------------------------------------------------------


async def test_a_gateway_that_dies_leaves_no_ghosts_even_after_presence_died(tmp_path: Path) -> None:
    """Its people go on at the other gateway and get what is due; 15 s later nothing says that they are there."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        async with steady_traffic(scene.lanes) as traffic:
            await _restart(cluster, "presence", signal.SIGKILL)
            (dead,) = [g for g in await _live_gateways(cluster) if g.startswith("g1-")]
            cluster.processes.set_restarts("g1", False)
            there = [client for client in _javascript(scene) if _url(client) == cluster.urls[0]]
            marks = {client.name: client.mark for client in there}
            began = time.monotonic()
            cluster.processes.kill("g1", signal.SIGKILL)
            for client in there:
                await client.wait_for("connect", timeout_s=_SOON_S, since=marks[client.name])
            tell(f"everyone is connected after {time.monotonic() - began:.1f} s")
            await until(lambda: _traces_are_gone(cluster, dead), _GHOSTS_GONE_S, f"no trace of {dead}")
            tell(f"no ghosts after {time.monotonic() - began:.1f} s")
            await traffic.wait_flows()
        await scene.judge()


async def test_a_gateway_that_sleeps_for_ten_seconds_revives_with_its_sessions(tmp_path: Path) -> None:
    """It was given up for dead; awake, it seats its people again, and they get what they missed on the same socket."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        clients = scene.clients.values()
        async with steady_traffic(scene.lanes) as traffic:
            (asleep,) = [g for g in await _live_gateways(cluster) if g.startswith("g1-")]
            marks = {client.name: client.mark for client in clients}
            began = time.monotonic()
            cluster.processes.kill("g1", signal.SIGSTOP)
            await until(lambda: _traces_are_gone(cluster, asleep), _GHOSTS_GONE_S, f"no trace of {asleep}")
            tell(f"given up after {time.monotonic() - began:.1f} s")
            await _passes(began + 10.0)
            cluster.processes.kill("g1", signal.SIGCONT)
            await until(lambda: _revivals(cluster, "g1"), _SOON_S, "the gateway to revive")
            await traffic.wait_flows()
            assert not [e for c in clients for e in c.events("disconnect", marks[c.name])]
        await scene.judge()


async def test_gateways_that_leave_one_after_the_other_lose_nobody_and_nothing(tmp_path: Path) -> None:
    """SIGTERM closes their sockets with 1012, which brings each client back at once, to the other gateway."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        async with steady_traffic(scene.lanes) as traffic:
            for gateway in ("g1", "g2"):
                there = [client for client in _javascript(scene) if _url(client) == cluster.urls[int(gateway[1]) - 1]]
                marks = {client.name: client.mark for client in scene.clients.values()}
                await _restart(cluster, gateway, signal.SIGTERM)
                for client in there:
                    left = await client.wait_for("disconnect", timeout_s=_SOON_S, since=marks[client.name])
                    assert left.data["code"] == 1012, left
                    assert not left.data["final"]
                    await client.wait_for("auth_success", timeout_s=_SOON_S, since=marks[client.name])
                await traffic.wait_flows()
        await scene.judge()


# --- the broker ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_broker_that_comes_back_has_lost_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """What was `sent` is in the store, what was `queued` is in its file; traffic goes on by itself."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        asha = scene.clients["asha"]
        async with steady_traffic(scene.lanes) as traffic:
            began = time.monotonic()
            await cluster.servers.restart(number)
            await traffic.wait_flows()
            tell(f"traffic flows {time.monotonic() - began:.1f} s after the broker died")
            with cluster.store_away():
                queued = await _queued(asha, "bala", "q1")
                await cluster.servers.restart(number)
                again = await asha.send_message(_to("bala", "q1"))
                assert (again["messageId"], again["seq"]) == (queued["messageId"], queued["seq"])
            await _told(asha, queued["messageId"], "sent")
            await traffic.wait_flows()
        await scene.judge()


async def test_a_broker_that_was_wiped_gives_no_place_twice_and_loses_nothing_sent(tmp_path: Path) -> None:
    """Leases, seats, streams and counters are gone at once: they are made anew, the counters from the store."""
    async with scene_of(tmp_path) as scene:
        async with steady_traffic(scene.lanes) as traffic:
            for _ in range(2):
                began = time.monotonic()
                await scene.cluster.servers.wipe()
                await traffic.wait_flows(100)
                tell(f"100 messages answered within {time.monotonic() - began:.1f} s of the wipe")
        await scene.judge()


async def test_what_is_due_comes_in_its_order_though_a_wiped_broker_forgot_the_time(tmp_path: Path) -> None:
    """Its clock had been ahead: what it stamps after that is not brought before what it stamped then."""
    history = History()
    async with live_cluster(tmp_path) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await js.open("asha", cluster.urls[0], {"token": cluster.token("asha")}, user="asha")
        await asha.wait_for("auth_success")
        clock = keys.clock(await _partition(cluster, "direct:asha:bala"))
        await cluster.broker.command("SET", clock, int(time.time() * 1000) + 300_000)
        assert (await asha.send_message(_to("bala", "ahead")))["seq"] == 1
        await cluster.servers.wipe()
        assert (await asha.send_message(_to("bala", "behind"), timeout_s=2.0))["seq"] == 2
        bala = await js.open("bala", cluster.urls[1], {"token": cluster.token("bala")}, user="bala")
        page = await bala.wait_for("offline_messages", timeout_s=_SOON_S)
        assert [message["seq"] for message in page.data["messages"]] == [1, 2]


# --- the store -------------------------------------------------------------------------------------


async def test_while_the_store_is_away_messages_are_queued_delivered_and_later_sent(tmp_path: Path) -> None:
    """`queued` is the answer, the recipient has it at once, a repeat is the same message, `sent` follows by event."""
    async with scene_of(tmp_path) as scene:
        asha, bala = scene.clients["asha"], scene.clients["bala"]
        async with steady_traffic(scene.lanes) as traffic:
            with scene.cluster.store_away():
                queued = await _queued(asha, "bala", "q1")
                await bala.wait_for("new_message", lambda e: e.data["id"] == queued["messageId"], _SOON_S)
                again = await asha.emit("send_message", _to("bala", "q1"))
                assert (again["messageId"], again["seq"]) == (queued["messageId"], queued["seq"])
                await traffic.wait_flows()
                assert not [s for s in scene.history.statuses if s.client_id == "q1" and s.status == "sent"]
            await _told(asha, queued["messageId"], "sent")
            await _told(asha, queued["messageId"], "delivered")
        await scene.judge()


async def test_a_router_that_dies_while_the_store_is_away_loses_nothing_that_was_queued(tmp_path: Path) -> None:
    """Who takes over finds what was queued in the broker's log, and saves it when the store is back."""
    async with scene_of(tmp_path) as scene:
        cluster = scene.cluster
        asha = scene.clients["asha"]
        async with steady_traffic(scene.lanes) as traffic:
            with cluster.store_away():
                queued = await _queued(asha, "bala", "q1")
                owner = (await cluster.status())["partitions"][await _partition(cluster, "direct:asha:bala")]["owner"]
                cluster.processes.kill(owner.partition("-")[0], signal.SIGKILL)
                again = await asha.send_message(_to("bala", "q1"))
                assert (again["messageId"], again["seq"]) == (queued["messageId"], queued["seq"])
                await traffic.wait_flows()
            await _told(asha, queued["messageId"], "sent")
            await traffic.wait_flows()
        await scene.judge()


async def test_a_message_in_the_place_of_one_that_was_lost_is_due_all_the_same(tmp_path: Path) -> None:
    """What was only queued is lost with the broker's memory, though devices confirmed it. Its seq goes to another."""
    history = History()
    async with live_cluster(tmp_path) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await js.open("asha", cluster.urls[0], {"token": cluster.token("asha")}, user="asha")
        bala = await js.open("bala", cluster.urls[1], {"token": cluster.token("bala")}, user="bala")
        for client in (asha, bala):
            await client.wait_for("auth_success")
        assert (await asha.send_message(_to("bala", "saved")))["seq"] == 1
        with cluster.store_away():
            lost = await _queued(asha, "bala", "lost")
            await bala.wait_for("new_message", lambda e: e.data["id"] == lost["messageId"], _SOON_S)
            # The next is decided once the confirmation is: both are on one stream.
            assert (await _queued(asha, "bala", "lost as well"))["seq"] == 3
            await bala.close()
            await cluster.servers.wipe()
        answer = await asha.send_message(_to("bala", "in its place"), timeout_s=2.0)
        assert answer["seq"] == 2
        if answer["status"] == "queued":  # a store that was away is not always found back at once
            await _told(asha, answer["messageId"], "sent")
        bala = await js.open("bala2", cluster.urls[1], {"token": cluster.token("bala")}, user="bala")
        await bala.wait_for(
            "offline_messages", lambda e: answer["messageId"] in [m["id"] for m in e.data["messages"]], _SOON_S
        )


async def test_who_signs_in_while_the_store_is_away_gets_what_was_queued_for_them(tmp_path: Path) -> None:
    """A message queued for someone away reaches them once the store is back, though they came meanwhile."""
    history = History()
    async with live_cluster(tmp_path) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await js.open("asha1", cluster.urls[0], {"token": cluster.token("asha")}, user="asha")
        # Known to the routers: a stranger cannot be let in, or written to, while the store is away.
        bala = await js.open("bala0", cluster.urls[1], {"token": cluster.token("bala")}, device="bala1", user="bala")
        assert (await asha.send_message(_to("bala", "q0")))["status"] == "sent"
        await bala.wait_for_messages(1)
        await bala.close()
        with cluster.store_away():
            queued = await _queued(asha, "bala", "q1")
            bala = await js.open("bala1", cluster.urls[1], {"token": cluster.token("bala")}, user="bala")
            await bala.wait_for("auth_success")
        await _told(asha, queued["messageId"], "sent")
        report = await arrived(history, {"direct:asha:bala": ("asha1", "bala1")}, 15.0)
        assert report.ok, f"{report}\n{bala.dump()}"


async def test_what_was_queued_comes_first_to_who_had_lost_their_seat(tmp_path: Path) -> None:
    """A wiped broker knows nobody's seat, nor is a dead one's kept: what is said then comes before what follows."""
    history = History()
    async with live_cluster(tmp_path) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await js.open("asha1", cluster.urls[0], {"token": cluster.token("asha")}, user="asha")
        bala = await js.open("bala1", cluster.urls[1], {"token": cluster.token("bala")}, user="bala")
        for client in (asha, bala):
            await client.wait_for("auth_success")
        assert (await asha.send_message(_to("bala", "saved")))["status"] == "sent"
        (asleep,) = [g for g in await _live_gateways(cluster) if g.startswith("g2-")]
        with cluster.store_away() as is_readable:
            cluster.processes.kill("g2", signal.SIGSTOP)
            if is_readable:
                await cluster.servers.wipe()
            else:  # a wiped broker would give no places until the store says which are taken
                await until(lambda: _traces_are_gone(cluster, asleep), _GHOSTS_GONE_S, f"no trace of {asleep}")
            assert (await asha.send_message(_to("bala", "q1"), timeout_s=2.0))["status"] == "queued"
            cluster.processes.kill("g2", signal.SIGCONT)
            await until(lambda: _is_seated(cluster, "bala"), _SOON_S, "a seat")
            await _queued(asha, "bala", "q2")
            await bala.wait_for("new_message", lambda e: e.data["clientId"] == "q2", _SOON_S)
            assert [one.client_id for one in history.sightings if one.device == "bala1"][-2:] == ["q1", "q2"]
        report = await arrived(history, {"direct:asha:bala": ("asha1", "bala1")}, _SOON_S)
        assert report.ok, f"{report}\n{bala.dump()}"


async def test_an_outage_of_the_store_that_lasts_does_not_shut_people_out(tmp_path: Path) -> None:
    """What is parked for the store is not lag: past the bound on lag, messages are still queued and people let in."""
    async with scene_of(tmp_path, environment={"OVERLOAD_LAG_S": "2"}) as scene:
        cluster = scene.cluster
        asha = scene.clients["asha"]
        # Known to the routers: where nothing can be read, a stranger cannot be judged.
        assert (await asha.send_message(_to("bala", "q0")))["status"] == "sent"
        with cluster.store_away():
            queued = await _queued(asha, "bala", "q1")
            # The heartbeat looks at the lag every two seconds.
            await _passes(time.monotonic() + 5.0)
            answer = await asha.emit("send_message", _to("bala", "q2"))
            assert answer["ok"], answer
            assert answer["status"] == "queued"
        await _told(asha, queued["messageId"], "sent")
        await scene.judge()


# --- what tests look at ----------------------------------------------------------------------------


async def _owned_by(cluster: LiveCluster, router: str) -> set[int]:
    """The partitions that some life of this router owns."""
    owners = {p["partition"]: p["owner"] for p in (await cluster.status())["partitions"]}
    return {number for number, owner in owners.items() if owner is not None and owner.startswith(f"{router}-")}


async def _partition(cluster: LiveCluster, conversation_id: str) -> int:
    """The partition of a conversation. The last that there is has none: it is that of broadcasts."""
    return names.partition_of(conversation_id, len((await cluster.status())["partitions"]) - 1)


async def _all_owned_by(cluster: LiveCluster, router: str, partitions: set[int]) -> bool:
    return partitions <= await _owned_by(cluster, router)


async def _passes(moment: float) -> None:
    """Wait for a moment of the monotonic clock: how long somebody sleeps is what the test is about."""
    await until(lambda: time.monotonic() >= moment, 60.0, "time to pass")


async def _is_seated(cluster: LiveCluster, user: str) -> bool:
    return bool(await Directory(cluster.broker).locate([user]))


async def _live_gateways(cluster: LiveCluster) -> list[str]:
    return [gateway["id"] for gateway in (await cluster.status("g2"))["gateways"]]


async def _traces_are_gone(cluster: LiveCluster, gateway: str) -> bool:
    """Whether no key of the directory speaks of this gateway any more."""
    ask = cluster.broker.command
    if await ask("ZSCORE", keys.gateways(), gateway) is not None or await ask("HEXISTS", keys.figures(), gateway):
        return False
    if await ask("EXISTS", keys.downlink(gateway)):
        return False
    for shard in range(keys.DIRECTORY_SHARDS):
        seats = await ask("HVALS", keys.seats(shard))
        if await ask("EXISTS", keys.seated(shard, gateway)) or any(gateway.encode() in held.split() for held in seats):
            return False
    return True


async def _revivals(cluster: LiveCluster, gateway: str) -> bool:
    return await cluster.metric(gateway, "talowa_gateway_revivals_total") >= _BORN + 1


def _javascript(scene: Scene) -> list[JsClient]:
    return [client for client in scene.clients.values() if isinstance(client, JsClient)]


def _url(client: Client) -> str:
    """Where a JavaScript client is connected."""
    return str(client.events("connect")[-1].data["url"])


def _to(recipient: str, client_id: str) -> dict[str, Any]:
    return {"clientId": client_id, "recipientId": recipient, "content": f"సందేశం {client_id}"}


async def _restart(cluster: LiveCluster, name: str, number: signal.Signals) -> None:
    """End a process; it is started again by itself."""
    pid = cluster.processes.pid(name)
    cluster.processes.kill(name, number)
    await until(lambda: cluster.processes.pid(name) not in (None, pid), _SOON_S, f"{name} to be started again")
    await cluster.wait_ready(name)


async def _queued(client: Client, recipient: str, client_id: str) -> dict[str, Any]:
    """Send a message that is to be answered `queued`; the answer."""
    answer: dict[str, Any] = await client.send_message(_to(recipient, client_id))
    assert answer["ok"], answer
    assert answer["status"] == "queued", answer
    return answer


async def _told(client: Client, message_id: str, status: str) -> None:
    """Wait until a sender was told this status of a message, or a later one, if it was skipped."""
    enough = _STATUSES[_STATUSES.index(status) :]
    await client.wait_for(
        "message_delivery_status", lambda e: e.data["messageId"] == message_id and e.data["status"] in enough, _SOON_S
    )
