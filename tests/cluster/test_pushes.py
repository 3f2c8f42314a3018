"""Pushes: a phone that is away is pushed once for what stays due, by Firebase's own library, at what stands in for it.

One cluster serves the whole module.
"""

import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from services.router.sqlite import UserRow
from tests.support.clients import JsClient, JsClients
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.fcm import Fcm, fcm
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SOON_S: Final = 20.0
_SECRET: Final = "the meeting is at the well"  # noqa: S105 - content, which must not be seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LiveCluster, Fcm]]:
    """Two routers that push after half a second."""
    async with fcm() as service:
        environment = {
            "PUSH": "fcm",
            "PUSH_AFTER_S": "0.5",
            "FIREBASE_PROJECT_ID": "talowa-1a2b3",
            "FCM_URL": service.url,
        }
        home = tmp_path_factory.mktemp("pushes")
        async with live_cluster(home, gateways=1, routers=2, environment=environment) as cluster:
            await cluster.people(
                [
                    UserRow("asha", "Asha", push_tokens=frozenset({"asha-1"})),
                    UserRow("ravi", "Ravi", push_tokens=frozenset({"ravi-1", "ravi-2"}), village_id="v1"),
                    UserRow("sita", "Sita", push_tokens=frozenset({"sita-1"})),
                    UserRow("lata", "Lata", role="coordinator", village_id="v1"),
                ],
                {"well": ["asha", "ravi", "sita"]},
            )
            yield cluster, service


@pytest_asyncio.fixture(loop_scope="module")
async def js() -> AsyncIterator[JsClients]:
    """Clients of one test."""
    async with JsClients(History()) as clients:
        yield clients


async def _open(js: JsClients, cluster: LiveCluster, user: str, name: str | None = None) -> JsClient:
    client = await js.open(name or user, cluster.urls[0], {"token": cluster.token(user)}, user=user)
    await client.wait_for("auth_success")
    return client


async def _sent(js: JsClients, cluster: LiveCluster, user: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The answer to a message of who comes, sends it, and goes."""
    client = await _open(js, cluster, user, f"{user} {payload['clientId']}")
    answer: dict[str, Any] = await client.send_message(payload)
    assert answer["ok"], answer
    await client.close()
    return answer


async def test_a_phone_that_is_away_is_pushed_once(scene: tuple[LiveCluster, Fcm], js: JsClients) -> None:
    """Every device of the recipient, none of the sender; once, and not for who has it."""
    cluster, service = scene
    ravi = await _open(js, cluster, "ravi")
    answer = await _sent(js, cluster, "asha", {"clientId": "p1", "groupId": "well", "content": "నీళ్ళు వచ్చాయి"})
    await ravi.wait_for("new_message", lambda e: e.data["id"] == answer["messageId"], _SOON_S)
    await until(lambda: service.to("sita-1"), _SOON_S, "a push to Sita")
    second = await _sent(js, cluster, "asha", {"clientId": "p2", "groupId": "well", "content": "రండి"})
    await until(lambda: len(service.to("sita-1")) == 2, _SOON_S, "a push of the second message")
    first, last = service.to("sita-1")
    assert first["notification"] == {"title": "Asha", "body": "నీళ్ళు వచ్చాయి"}
    assert first["data"]["messageId"] == answer["messageId"]
    assert last["data"]["messageId"] == second["messageId"]
    assert first["android"]["collapse_key"] == last["android"]["collapse_key"]
    assert first["android"]["priority"] == "normal"
    assert not service.to("asha-1")
    assert all(message["data"]["messageId"] != answer["messageId"] for message in service.to("ravi-1"))
    await ravi.close()


async def test_what_is_secret_is_not_in_a_push(scene: tuple[LiveCluster, Fcm], js: JsClients) -> None:
    """Neither content nor sender, of high security or without a name; and nothing of any push in a log."""
    cluster, service = scene
    before = len(service.taken)
    secure = {"clientId": "s1", "recipientId": "ravi", "content": _SECRET, "encryptionLevel": "high_security"}
    await _sent(js, cluster, "asha", secure)
    await until(lambda: service.to("ravi-2")[-1:], _SOON_S, "a push of the secure message")
    hidden = {"clientId": "s2", "recipientId": "ravi", "content": _SECRET, "isAnonymous": True}
    await _sent(js, cluster, "asha", hidden)
    await until(lambda: len(service.to("ravi-2")) >= 2, _SOON_S, "a push of the anonymous message")
    for message in service.taken[before:]:
        assert "notification" not in message
        assert message["data"] == {"type": "sync"}
        assert "asha" not in str(message).replace("asha-1", "").lower()
        assert _SECRET not in str(message)
    for said in ("ravi-2", "sita-1", _SECRET, "నీళ్ళు"):
        assert said not in cluster.logs()


async def test_an_emergency_is_urgent_and_a_warning_goes_by_topic(
    scene: tuple[LiveCluster, Fcm], js: JsClients
) -> None:
    """To all who follow the village, at once."""
    cluster, service = scene
    await _sent(js, cluster, "lata", {"clientId": "e1", "recipientId": "sita", "content": "Run", "type": "emergency"})
    await until(lambda: service.to("sita-1")[-1]["android"]["priority"] == "high", _SOON_S, "an urgent push")
    lata = await _open(js, cluster, "lata")
    warning = {"title": "Flood", "content": "Leave now", "locationLevel": "village", "locationIds": ["v1"]}
    await lata.emit("emergency_broadcast", warning | {"priority": "high", "clientId": "b1"})
    (pushed,) = await until(lambda: service.to("village-v1"), _SOON_S, "a push to the village")
    assert pushed["notification"] == {"title": "Flood", "body": "Leave now"}
    assert pushed["android"]["priority"] == "high"


async def test_a_refused_push_is_tried_again_and_a_dead_token_is_forgotten(
    scene: tuple[LiveCluster, Fcm], js: JsClients
) -> None:
    """Over the quota, unavailable: later. Unregistered: the token goes, the other device is pushed all the same."""
    cluster, service = scene
    before = len(service.to("ravi-1"))
    service.refusals = {"ravi-1": ["UNREGISTERED"], "ravi-2": ["QUOTA_EXCEEDED"], "sita-1": ["INVALID_ARGUMENT"]}
    answer = await _sent(js, cluster, "asha", {"clientId": "r1", "groupId": "well", "content": "again"})

    def arrived() -> bool:
        return any(m["data"].get("messageId") == answer["messageId"] for m in service.to("ravi-2"))

    await until(arrived, _SOON_S, "the push that was over the quota")
    again = await _sent(js, cluster, "asha", {"clientId": "r2", "recipientId": "ravi", "content": "more"})

    def told_of_more() -> bool:
        return any(m["data"].get("messageId") == again["messageId"] for m in service.to("ravi-2"))

    await until(told_of_more, _SOON_S, "a push of the next message")
    assert len(service.to("ravi-1")) == before


async def test_pushes_survive_their_router_and_none_is_sent_twice(
    scene: tuple[LiveCluster, Fcm], js: JsClients
) -> None:
    """Routers are killed with -9 while pushes wait: every message is pushed, none to one phone twice."""
    cluster, service = scene
    sent: list[str] = []
    asha = await _open(js, cluster, "asha")
    for number in range(12):
        answer = await asha.send_message({"clientId": f"k{number}", "recipientId": "sita", "content": f"k {number}"})
        sent.append(answer["messageId"])
        router = f"r{1 + number // 4 % 2}"
        if number % 4 == 1 and cluster.processes.pid(router) is not None:
            cluster.processes.kill(router, signal.SIGKILL)
    last = sent[-1]

    def pushed() -> list[str]:
        return [m["data"]["messageId"] for m in service.to("sita-1") if m["data"].get("messageId") in sent]

    await until(lambda: last in pushed(), 30.0, "a push of the last message")
    assert len(set(pushed())) == len(pushed())
