"""The clients connect, are answered, confirm, come back and leave, against a stock python-socketio server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
import socketio
from aiohttp import ClientSession, web

from tests.support.clients import Client, DriverDied, JsClients, NoAnswer, PythonClient, RawClient
from tests.support.history import History, check
from tests.support.waiting import until

# socket.io-client's own, shortened: what is tested here does not depend on how long it waits.
SOON = {"reconnectionDelay": 20, "reconnectionDelayMax": 50}


class EchoServer:
    """A stock server with one conversation: whatever is sent comes back as `new_message` to everyone."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="aiohttp")
        self.confirmed: list[tuple[Any, ...]] = []
        self.handshakes: list[Any] = []
        self._seq = 0
        self.sio.on("connect", self._on_connect)
        self.sio.on("send_message", self._on_send_message)
        self.sio.on("echo", lambda _, payload=None: {"echo": payload})
        self.sio.on("ask_me", self._on_ask_me)
        self.sio.on("mute", self._never)
        self.sio.on("leave_me", self._on_leave_me)

    async def __aenter__(self) -> Self:
        app = web.Application()
        self.sio.attach(app)
        # Sockets that stay are cut: a gateway that dies does not say goodbye.
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self.sio.shutdown()
        await self._runner.cleanup()

    async def _on_connect(self, sid: str, _: object, auth: Any = None) -> None:
        self.handshakes.append(auth)
        if auth and auth.get("token") == "bad":
            raise socketio.exceptions.ConnectionRefusedError("refused", {"code": "token_invalid", "retryable": False})
        await self.sio.emit("auth_success", {"userId": (auth or {}).get("token", "nobody")}, to=sid)

    async def _on_send_message(self, sid: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        place = {"seq": self._seq, "conversationId": "group:echo"}
        message_id = f"m-{payload['clientId']}"
        message = {**place, "id": message_id, "senderId": "asha", "clientId": payload["clientId"]}
        await self.sio.emit("new_message", message, skip_sid=sid)
        return {"ok": True, "status": "sent", "messageId": message_id, **place}

    async def _on_ask_me(self, sid: str, payload: Any) -> None:
        await self.sio.emit("new_message", payload, to=sid, callback=lambda *args: self.confirmed.append(args))

    async def _on_leave_me(self, sid: str) -> None:
        await self.sio.disconnect(sid)

    async def _never(self, *_: object) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
async def js(history: History) -> AsyncIterator[JsClients]:
    async with JsClients(history) as js:
        yield js


@pytest.fixture(params=["javascript", "python"])
async def client(
    request: pytest.FixtureRequest, js: JsClients, history: History, server: EchoServer
) -> AsyncIterator[Client]:
    auth = {"token": "asha"}
    if request.param == "javascript":
        yield await js.open("a1", server.url, auth, transports=["websocket"], options=SOON)
    else:
        async with await PythonClient.open(history, "a1", server.url, auth, transports=["websocket"]) as client:
            yield client


@pytest.fixture
async def draining_url() -> AsyncIterator[str]:
    """A server that lets everyone in and closes at once with 1012. A stock one never closes a WebSocket itself."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":60000,"maxPayload":65536}')
        await socket.receive_str()
        await socket.send_str('40{"sid":"s"}')
        await socket.close(code=1012)
        return socket

    app = web.Application()
    app.router.add_get("/socket.io/", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


def message(number: int) -> dict[str, Any]:
    return {"id": f"m{number}", "seq": number, "conversationId": "group:g", "senderId": "b", "clientId": str(number)}


async def test_a_client_is_answered(client: Client) -> None:
    """The acknowledgement of an event is what `emit` returns, Indic text as it is."""
    assert client.connected
    assert await client.emit("echo", {"text": "భూమి"}) == {"echo": {"text": "భూమి"}}
    assert await client.emit("echo") == {"echo": None}


async def test_many_events_in_flight_are_answered_each_with_its_own(client: Client) -> None:
    """Answers find the call that waits for them."""
    answers = await asyncio.gather(*(client.emit("echo", number) for number in range(100)))
    assert [answer["echo"] for answer in answers] == list(range(100))


async def test_an_event_without_an_answer_says_so(client: Client) -> None:
    """A client that hears nothing can send again."""
    with pytest.raises(NoAnswer, match="a1"):
        await client.emit("mute", timeout_s=0.05)
    assert await client.emit("echo", 1) == {"echo": 1}


async def test_an_event_is_confirmed_only_when_told_to(client: Client, server: EchoServer) -> None:
    """The server's acknowledgement callback is called for a client that acknowledges, and for no other."""
    await client.acknowledge(False)
    await client.emit("ask_me", message(1))
    await client.wait_for("new_message", lambda event: event.data["id"] == "m1")
    # An answer that comes back after it shows that an acknowledgement would have come as well.
    await client.emit("echo")
    assert server.confirmed == []
    await client.acknowledge(True)
    await client.emit("ask_me", message(2))
    await until(lambda: server.confirmed, 5, "an acknowledgement")
    assert client.message_ids == {"m1", "m2"}


async def test_a_wait_that_fails_shows_what_was_received(client: Client) -> None:
    """The dump names the events with their arguments."""
    await client.emit("ask_me", message(1))
    await client.wait_for_messages(1)
    with pytest.raises(AssertionError, match=r'(?s)no new_message that was waited for.*auth_success.*"m1"'):
        await client.wait_for("new_message", lambda event: event.data["id"] == "m2", timeout_s=0.05)
    with pytest.raises(AssertionError, match="1 of 2 messages"):
        await client.wait_for_messages(2, timeout_s=0.05)


async def test_a_mark_leaves_out_what_was_before(client: Client) -> None:
    """The same event can be waited for again."""
    await client.emit("ask_me", message(1))
    await client.wait_for("new_message")
    mark = client.mark
    await client.emit_nowait("ask_me", message(2))
    assert (await client.wait_for("new_message", since=mark)).data["id"] == "m2"
    assert [event.data["id"] for event in client.events("new_message")] == ["m1", "m2"]


async def test_a_client_whose_connection_was_cut_comes_back(client: Client) -> None:
    """The library reconnects by itself, with what it was last told to say, and goes on being answered."""
    mark = client.mark
    await client.set_auth({"token": "bala"})
    await client.drop()
    await client.wait_for("disconnect", since=mark)
    assert not client.connected
    back = await client.wait_for("auth_success", since=mark)
    assert back.data == {"userId": "bala"}
    await client.wait_connected()
    assert await client.emit("echo", 1) == {"echo": 1}


async def test_a_client_sent_away_stays_away_until_told(client: Client) -> None:
    """A disconnect packet is final for the library; the test may call it back."""
    await client.emit_nowait("leave_me")
    await client.wait_for("disconnect", lambda event: "server disconnect" in event.data["reason"])
    with pytest.raises(NoAnswer):
        await client.emit("echo", timeout_s=0.05)
    await client.connect_again()
    await client.wait_connected()
    assert await client.emit("echo", 1) == {"echo": 1}


async def test_a_closed_client_is_gone(client: Client) -> None:
    """Leaving is heard by the client itself, and it does not come back."""
    await client.close()
    assert not client.connected
    assert client.events("disconnect")


async def test_what_clients_do_is_written_into_the_history(
    client: Client, js: JsClients, history: History, server: EchoServer
) -> None:
    """Sends with their answers, and what others saw of them: enough for the checker."""
    other = await js.open("b1", server.url, {"token": "bala"})
    await other.wait_for("auth_success")
    for number in range(3):
        answer = await client.send_message({"clientId": f"c{number}", "groupId": "echo", "content": "x"})
        assert answer["ok"]
    await other.wait_for_messages(3)
    report = check(history, {"group:echo": ("a1", "b1")})
    assert report.ok, report
    assert report.messages == 3
    assert history.users == {"a1": "asha", "b1": "bala"}
    assert history.seen_by("b1") == {"m-c0", "m-c1", "m-c2"}


async def test_a_refused_handshake_is_reported_with_its_data(
    js: JsClients, history: History, server: EchoServer
) -> None:
    """Code and words reach the test, whichever library met them; it is final until told otherwise."""
    refused = await js.open("a1", server.url, {"token": "bad"}, wait=False)
    error = (await refused.wait_for("connect_error")).data
    code = {"code": "token_invalid", "retryable": False}
    assert error == {"message": "refused", "data": code, "final": True}
    await refused.set_auth({"token": "good"})
    await refused.connect_again()
    await refused.wait_connected()
    with pytest.raises(socketio.exceptions.ConnectionError):
        await PythonClient.open(history, "b1", server.url, {"token": "bad"})
    assert server.handshakes == [{"token": "bad"}, {"token": "good"}, {"token": "bad"}]


async def test_a_javascript_client_goes_to_the_next_address(js: JsClients) -> None:
    """When its server stops it reaches another, as behind an ingress; and the first time too."""
    async with EchoServer() as second:
        async with EchoServer() as first:
            urls = [first.url, second.url]
            client = await js.open("a1", urls, transports=["websocket"], options=SOON)
            assert client.events("connect")[0].data["url"] == first.url
        back = await client.wait_for("connect", lambda event: event.data["url"] == second.url)
        assert back.data["transport"] == "websocket"
        lost = client.events("disconnect")[0].data
        assert (lost["final"], lost["code"]) == (False, 1006), lost
        await js.open("b1", urls, options=SOON)
        assert await client.emit("echo", 1) == {"echo": 1}


async def test_a_python_client_goes_to_the_next_address(history: History) -> None:
    """The library asks for the address at each attempt."""
    async with EchoServer() as second:
        async with EchoServer() as first:
            client = await PythonClient.open(history, "a1", [first.url, second.url], transports=["websocket"])
        async with client:
            await client.wait_for("connect", lambda event: second.url[4:] in event.data["url"])
            assert await client.emit("echo", 1) == {"echo": 1}


async def test_a_javascript_client_upgrades_from_polling(js: JsClients, server: EchoServer) -> None:
    """Without a wish it begins with polling and says when it has moved on; with one it stays."""
    client = await js.open("a1", server.url)
    assert (await client.wait_for("upgrade")).data == {"transport": "websocket"}
    poller = await js.open("b1", server.url, transports=["polling"])
    assert await poller.emit("echo", 1) == {"echo": 1}
    await poller.drop()
    await poller.wait_for("disconnect")


async def test_a_python_client_may_poll(server: EchoServer, history: History) -> None:
    """Polling alone, to the end."""
    async with await PythonClient.open(history, "a1", server.url, transports=["polling"]) as client:
        assert await client.emit("echo", 1) == {"echo": 1}


async def test_a_driver_that_dies_fails_who_waits(history: History, server: EchoServer) -> None:
    """Nobody waits for a process that is gone; its last words are in the error."""
    js = await JsClients(history).start()
    client = await js.open("a1", server.url)
    js.tell("nonsense", "a1")
    with pytest.raises(DriverDied, match="not a function"):
        await client.wait_for("never")
    with pytest.raises(DriverDied, match="not a function"):
        await client.emit("echo")
    with pytest.raises(DriverDied, match="not a function"):
        await js.leave()


async def test_a_raw_client_speaks_frame_by_frame(server: EchoServer, history: History) -> None:
    """It shows what is on the wire, answers nothing by itself but pings, and records what it saw."""
    async with await RawClient.connect(server.url, {"token": "asha"}, history=history) as raw:
        assert await raw.expect_event("auth_success") == {"userId": "asha"}
        assert (await raw.expect("40")).startswith('40{"sid":')
        await raw.send_event("echo", "x", ack=7)
        assert await raw.expect_answer(7) == {"echo": "x"}
        await raw.send_event("ask_me", message(1))
        assert (await raw.expect("42")).startswith('421["new_message",{"id":"m1",')
        assert server.confirmed == []
        await raw.send_text("431[]")
        await until(lambda: server.confirmed, 5, "an acknowledgement")
    assert history.seen_by("raw") == {"m1"}
    assert history.users == {"raw": "asha"}


async def test_the_code_a_socket_was_closed_with_is_reported(js: JsClients, draining_url: str) -> None:
    """1012, said by a server that leaves, is seen by both, and brings a JavaScript client back by itself."""
    async with await RawClient.connect(draining_url) as raw:
        with pytest.raises(AssertionError, match=r"closed \(1012\) before never"):
            await raw.expect("never")
        assert await raw.wait_closed() == raw.close_code == 1012
    client = await js.open("a1", draining_url, transports=["websocket"], options=SOON)
    gone = await client.wait_for("disconnect")
    assert gone.data == {"reason": "transport close", "code": 1012, "final": False}
    await client.wait_for("connect", since=client.events().index(gone))


async def test_a_raw_client_is_refused_like_others(server: EchoServer) -> None:
    """A refused handshake is a frame."""
    async with await RawClient.connect(server.url, {"token": "bad"}) as raw:
        assert await raw.expect("44") == '44{"message":"refused","data":{"code":"token_invalid","retryable":false}}'
        with pytest.raises(AssertionError, match=r"no frame within|no never within"):
            await raw.expect("never", timeout_s=0.05)


async def test_the_echo_server_is_up_for_plain_http(server: EchoServer) -> None:
    """`until` fits a condition over HTTP."""

    async def status() -> int:
        async with ClientSession() as session, session.get(f"{server.url}/socket.io/?EIO=4&transport=polling") as page:
            return page.status

    assert await until(status, 5, "an open packet") == 200
