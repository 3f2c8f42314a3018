"""What a cluster really says is what `docs/asyncapi.yaml` says that it says.

Asha and Ravi go through every event of the contract once, with the document's own examples; others go through what
goes wrong. What came back is held against the document.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from docs import asyncapi, examples
from libs.wire import events, payloads
from services.router.sqlite import UserRow
from tests.support.asyncapi import wrong
from tests.support.clients import RawClient
from tests.support.cluster import LiveCluster, live_cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

# All others are Asha's.
_RAVIS: Final = frozenset({"message_delivered", "mark_as_read", "message_read", "publish_keys"})
# Who hears what; all others are Asha's.
_HEARD_BY: Final = {
    "new_message": "ravi",
    "message_read_confirmed": "ravi",
    "typing_indicator": "ravi",
    "emergency_broadcast": "ravi",
    "keys_low": "ravi",
    "token_expiring": "brief",
    "auth_required": "silent",
    "auth_timeout": "silent",
    "auth_failed": "forged",
}
_HEARD_WITHIN_S: Final = 3.0


class Scene:
    """What was answered, by event, and everything that was received, by event."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.received: dict[str, list[Any]] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Played once."""
    impatient = {"SIGN_IN_TIMEOUT_S": "1", "ANSWER_TIMEOUT_S": "1"}
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=1, routers=1, environment=impatient) as cluster, AsyncExitStack() as stack:
        asha = UserRow(id="asha", name="Asha", role="coordinator")
        ravi = UserRow(id="ravi", name="Ravi", district_id="bhadradri")
        await cluster.people([asha, ravi], {"sangam": ["asha", "ravi"]})
        clients = {
            name: await stack.enter_async_context(await RawClient.connect(cluster.urls[0], auth, name=name))
            for name, auth in {
                "silent": None,
                "ravi": {"token": cluster.token("ravi")},
                "asha": {"token": cluster.token("asha")},
                "brief": {"token": cluster.token("asha", ttl_s=60)},
                "forged": None,
            }.items()
        }
        await clients["forged"].send_event("authenticate", {"token": "forged"})
        for name in ("ravi", "asha", "brief"):
            await clients[name].expect_event("auth_success")
        yield await _play(cluster, clients)


@pytest.mark.parametrize("event", events.type_of_event)
async def test_an_event_is_answered_as_the_contract_says(scene: Scene, event: str) -> None:
    """The document's example is accepted, and the answer has the fields that the document gives it, and no more."""
    answer, kind = scene.answers[event], payloads.answer_of_event[event]
    assert answer["ok"], answer
    msgspec.json.decode(json.dumps(answer), type=kind)
    assert answer.keys() - {"ok"} <= _names(kind)


@pytest.mark.parametrize("event", payloads.type_of_event)
async def test_an_event_of_the_contract_is_heard(scene: Scene, event: str) -> None:
    """What the document promises comes when the time is right for it, with the fields it has there, and no more."""
    assert event in scene.received
    assert set().union(*scene.received[event]) <= _names(payloads.type_of_event[event])


async def test_everything_that_was_received_is_as_the_document_says(scene: Scene) -> None:
    """By the document's own schemas: every answer and every event of every socket, its fields, types and choices."""
    assert scene.received.keys() <= payloads.type_of_event.keys()
    document = asyncapi.document()
    messages = document["components"]["messages"]
    said = {f"server.{event}": bodies for event, bodies in scene.received.items()}
    for event, answer in scene.answers.items():
        kind = payloads.answer_of_event[event] if answer["ok"] else payloads.Refused
        said.setdefault(f"answer.{kind.__name__}", []).append(answer)
    for key, bodies in said.items():
        messages[key]["examples"] = [{"payload": body} for body in bodies]
    assert await wrong(document) == []


async def _play(cluster: LiveCluster, clients: dict[str, RawClient]) -> Scene:
    scene = Scene()
    acks = count(100)
    for event, example in examples.sent.items():
        client = clients["ravi" if event in _RAVIS else "asha"]
        payload = {"token": cluster.token("asha")} if event == "authenticate" else example
        ack = next(acks)
        await client.send_event(event, payload, ack=ack)
        scene.answers[event] = await client.expect_answer(ack)
    await clients["asha"].send_event("subscribe_presence", examples.sent["subscribe_presence"])
    await clients["asha"].send_event("no_such_event", {})
    await clients["asha"].send_event("send_message", {"clientId": "blank", "content": "", "recipientId": "ravi"})
    for event in payloads.type_of_event:
        if event == "reconnect":
            continue
        with suppress(AssertionError):  # a test of its own says that it was not heard
            await clients[_HEARD_BY.get(event, "asha")].expect_event(event, _HEARD_WITHIN_S)
    await cluster.post("g1", "/stop")
    with suppress(AssertionError):
        await clients["asha"].expect_event("reconnect", _HEARD_WITHIN_S)
    for client in clients.values():
        for frame in client.frames:
            if isinstance(frame, str) and frame.startswith("42"):
                name, body = json.loads(frame[frame.index("[") :])
                scene.received.setdefault(name, []).append(body)
    return scene


def _names(kind: type[Any]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}
