"""Two people on two gateways write to each other, and in a group."""

from pathlib import Path

from tests.support.clients import JsClients
from tests.support.cluster import live_cluster
from tests.support.history import History, check


async def test_people_on_two_gateways_write_to_each_other(tmp_path: Path) -> None:
    """What one sends the other receives, once, in order, and the sender sees how far it came."""
    history = History()
    async with live_cluster(tmp_path) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await js.open("asha1", [cluster.urls[0]], {"token": cluster.token("asha")})
        bala = await js.open("bala1", [cluster.urls[1]], {"token": cluster.token("bala")})
        for number in range(10):
            answer = await asha.send_message({"clientId": f"c{number}", "recipientId": "bala", "content": "నమస్తే"})
            assert answer["seq"] == number + 1
        await bala.wait_for_messages(10)
        await asha.wait_for(
            "message_delivery_status", lambda e: e.data["seq"] == 10 and e.data["status"] == "delivered"
        )
    report = check(history, {"direct:asha:bala": ("asha1", "bala1")})
    assert report.ok, report
