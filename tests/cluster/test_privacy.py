"""What people say to each other, and what signs them in, is in no log and on no page of metrics."""

import asyncio
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from services.local.keyring import Keyring
from services.router.sqlite import UserRow
from tests.support.clients import RawClient
from tests.support.cluster import LiveCluster, live_cluster

_SAID: Final = "quince-marmalade"
_SERVICES: Final = ("g1", "r1", "presence")


async def test_no_log_and_no_metric_holds_what_people_say(tmp_path: Path) -> None:
    """Content, names, addresses, tokens and tickets, taken or refused, at the most talkative level.

    Nor in what a gateway answers to a request that is wrong, nor when it stumbles over an event and says so.
    """
    environment = {"LOG_LEVEL": "debug"}
    async with live_cluster(
        tmp_path, gateways=1, routers=1, environment=environment, mutants={"g1": "telltale"}
    ) as cluster:
        await cluster.people([UserRow(id="asha", name=f"Asha {_SAID}"), "bala"], {"committee": ["asha", "bala"]})
        secrets = await _talk(cluster)
        pages = [str(await cluster.get(name, "/metrics")) for name in _SERVICES]
    told = "\n".join([cluster.logs(), *pages])
    assert '"event": "started"' in told
    assert 'talowa_gateway_events_total{event="send_message"}' in told
    assert "a frame could not be taken" in told
    assert [secret for secret in secrets if secret in told] == []


async def _talk(cluster: LiveCluster) -> set[str]:
    """Traffic of every kind; what must not be told of it."""
    token, ticket = cluster.token("asha"), ""
    bad = f"{cluster.token('bala')[:-8]}{_SAID[:8]}"
    message: dict[str, Any] = {
        "recipientId": "bala",
        "content": f"content {_SAID}",
        "mediaUrl": f"https://media.example/{_SAID}",
        "mediaMetadata": {"name": _SAID},
    }
    async with await RawClient.connect(cluster.urls[0], {"token": bad}) as stranger:
        await stranger.expect("44")
    async with (
        await RawClient.connect(cluster.urls[0], {"token": token}) as asha,
        await RawClient.connect(cluster.urls[0]) as bala,
    ):
        ticket = (await asha.expect_event("auth_success"))["resumeTicket"]
        await bala.send_event("authenticate", {"token": cluster.token("bala"), "deviceInfo": {"model": _SAID}})
        await bala.expect_event("auth_success")
        changes: tuple[dict[str, Any], ...] = (
            {},
            {"encryptionLevel": "high_security"},
            {"recipientId": None, "groupId": "committee"},
            {"type": _SAID},
            {"content": 5, "mediaUrl": [_SAID]},
            {"recipientId": f"no body {_SAID}"},
            {"recipientId": f"nobody-{_SAID}"},
            {"timestamp": _SAID},
            {"content": _SAID * 2_000},
        )
        for number, changed in enumerate(changes):
            await asha.send_event("send_message", message | {"clientId": f"c{number}"} | changed, ack=number)
            await asha.expect_answer(number)
        for number in range(3):
            assert _SAID in str(await bala.expect_event("new_message")), number
        for event, payload in (
            (_SAID, {"x": _SAID}),
            ("heartbeat", {"clientTime": _SAID}),
            ("join_group", {"groupId": f"two words {_SAID}"}),
            ("search_messages", {"query": _SAID}),
            ("get_conversation_history", {"conversationId": "asha", "limit": _SAID}),
            ("get_conversation_history", {"conversationId": "asha"}),
        ):
            await bala.send_event(event, payload, ack=1)
            await bala.expect_answer(1)
        await bala.send_bytes(_SAID.encode())
        await bala.send_text(f'42["heartbeat",{_SAID}')
        await bala.wait_closed()
    async with await RawClient.connect(cluster.urls[0], {"resumeTicket": ticket}) as asha:
        await asha.expect_event("auth_success")
        await asha.send_event("send_message", message | {"clientId": "stumble"}, ack=1)
        assert await asha.wait_closed() == 1011
    async with aiohttp.ClientSession() as session:
        for path in (
            f"/socket.io/?EIO=4&transport=polling&sid={_SAID}",
            f"/socket.io/?EIO={_SAID}&transport=polling",
            f"/socket.io/?EIO=4&transport={_SAID}&token={token}",
            f"/socket.io/?EIO=4&transport=websocket&token={token}",
            f"/{_SAID}",
            f"/info?token={_SAID}",
        ):
            async with session.get(f"{cluster.urls[0]}{path}", headers={"Cookie": _SAID}) as response:
                answered = await response.text()
                assert [secret for secret in (_SAID, token) if secret in answered] == []
        await _say_nonsense(cluster, f"GET /{_SAID} HTTP/9.9\r\nX: {token}\r\n\r\n")
        await _say_nonsense(cluster, f"POST /socket.io/ HTTP/1.1\r\nContent-Length: {_SAID}\r\n\r\n")
        await _say_nonsense(cluster, f"{_SAID} {token}\r\n\r\n")
        keyring = Keyring(cluster.home)
        internal = f"http://127.0.0.1:{cluster._internal['g1']}/status"
        async with session.get(internal, headers={"Authorization": f"Bearer {_SAID}"}) as response:
            assert response.status == 401
    return {
        _SAID,
        token.rpartition(".")[2],
        token.split(".")[1],
        bad.split(".")[1],
        ticket,
        keyring.ticket_secret(),
        keyring.admin_token(),
    }


async def _say_nonsense(cluster: LiveCluster, head: str) -> None:
    """What is no HTTP is answered, and not with its own words: a proxy on the way might keep them."""
    address = urlsplit(cluster.urls[0])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode())
    async with asyncio.timeout(10):
        answered = (await reader.read()).decode(errors="replace")
    writer.close()
    assert answered.startswith("HTTP/1.")
    assert [word for word in (_SAID, cluster.token("asha")[:20]) if word in answered] == []
