"""`talowa chat`: a person at a terminal, as a stock Socket.IO client. Lines in, messages and ticks out.

It speaks to the cluster as a phone does, and knows no more of it. The only file beside the gateway's
`sockets.py` that knows Socket.IO, from the other end.
"""

import asyncio
import codecs
import os
import threading
import unicodedata
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import socketio
from msgspec import Struct

from libs.wire import names

_SIGN_IN_S: Final = 15.0
# An answer takes well under a second; a message without one is sent again, and is the same message.
_RESEND_S: Final = 5.0
# What is typed ahead of the network. A pipe that is faster waits.
_TYPED_LINES: Final = 100
_LEAVE_S: Final = 10.0
_TICKS: Final = {"queued": "…", "sent": "✓", "delivered": "✓✓", "read": "✓✓ read", "failed": "✗"}
_RANK: Final = {"waiting": 0, "queued": 1, "sent": 2, "delivered": 3, "read": 4, "failed": 5}
_QUOTED_CHARS: Final = 40

Say = Callable[[str], None]


class CannotChat(Exception):
    """No connection, or no sign-in. The message says why and what to do."""


class Sent(Struct):
    """A line that was typed, and how far it got."""

    text: str
    client_id: str
    target: dict[str, str]
    sent_at: float = 0.0
    status: str = "waiting"
    is_answered: bool = False


class Chat:
    """One user's conversation with a person, a group, or whoever wrote last."""

    def __init__(self, user_id: str, target: dict[str, str], token: Callable[[], str], say: Say) -> None:
        self._user_id = user_id
        self._target = target
        self._token = token
        self._say = say
        self._sent: dict[str, Sent] = {}
        self._seen: set[str] = set()
        self._signed_in = asyncio.Event()
        self._refused = asyncio.Event()
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._refusal = ""
        self._is_leaving = False
        self._client: Any = socketio.AsyncClient(handle_sigint=False, reconnection_delay_max=5)
        for event, listener in {
            "connect_error": self._on_connect_error,
            "disconnect": self._on_disconnect,
            "auth_success": self._on_auth_success,
            "auth_failed": self._on_auth_failed,
            "token_expiring": self._on_token_expiring,
            "new_message": self._on_new_message,
            "offline_messages": self._on_offline_messages,
            "message_delivery_status": self._on_status,
            "message_error": self._on_message_error,
            "error": self._on_error,
            "emergency_broadcast": self._on_broadcast,
        }.items():
            self._client.on(event, listener)

    async def run(self, url: str, stop: asyncio.Event) -> None:
        """Talk until end of input, `/quit`, or `stop`. Raises `CannotChat`."""
        await self._connect(url)
        try:
            async with asyncio.TaskGroup() as tasks:
                resending = tasks.create_task(self._resend())
                typing = tasks.create_task(self._type())
                stopping = tasks.create_task(stop.wait())
                refused = tasks.create_task(self._refused.wait())
                await asyncio.wait([typing, stopping, refused], return_when=asyncio.FIRST_COMPLETED)
                for task in (resending, typing, stopping, refused):
                    task.cancel()
        finally:
            self._is_leaving = True
            await self._client.disconnect()
        if self._refused.is_set():
            raise CannotChat(self._refusal)

    async def _connect(self, url: str) -> None:
        try:
            # A function, so that each reconnection signs in with a token that has not expired.
            await self._client.connect(url, auth=lambda: {"token": self._token()}, transports=["websocket"])
        except socketio.exceptions.ConnectionError as error:
            if self._client.eio.http is not None:  # the library leaves it open when it cannot connect
                await self._client.eio.http.close()
            raise CannotChat(
                self._refusal or f"no connection to {url} ({error}). Is `talowa up` running, and is this its port?"
            ) from error
        try:
            async with asyncio.timeout(_SIGN_IN_S):
                await self._signed_in.wait()
        except TimeoutError as error:
            await self._client.disconnect()
            raise CannotChat(f"{url} did not answer the sign-in in {_SIGN_IN_S:g} s. See `talowa status`.") from error

    async def _type(self) -> None:
        lines: asyncio.Queue[str | None] = asyncio.Queue(_TYPED_LINES)
        _read_lines(asyncio.get_running_loop(), lines)
        while (line := await lines.get()) is not None:
            text = line.strip()
            if text == "/quit":
                break
            if text and not self._target:
                self._say("! to whom? Start with --to USER or --group G, or wait for a message and answer it.")
            elif text:
                await self._send(Sent(text, str(uuid4()), dict(self._target)))
        await self._wait_for_answers()

    async def _wait_for_answers(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._all_answered.wait()
        except TimeoutError:
            self._say("! some lines were not answered; they may not have been sent.")

    async def _send(self, sent: Sent) -> None:
        if sent.client_id not in self._sent:
            self._sent[sent.client_id] = sent
            self._all_answered.clear()
            self._tick("…", sent)
        sent.sent_at = asyncio.get_running_loop().time()
        if not self._signed_in.is_set():
            return  # `_resend` sends it after the next sign-in
        payload = {"id": sent.client_id, "clientId": sent.client_id, "type": "text", "content": sent.text}

        def answered(answer: Any = None) -> None:
            self._on_answer(sent, answer)

        try:
            await self._client.emit("send_message", payload | sent.target, callback=answered)
        except socketio.exceptions.SocketIOError:
            return  # the connection went; `_resend` has it

    async def _resend(self) -> None:
        """Send again, in order, what was not answered. The same clientId makes it the same message."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_RESEND_S / 5)
            for sent in list(self._sent.values()):
                if not sent.is_answered and loop.time() - sent.sent_at >= _RESEND_S:
                    await self._send(sent)

    def _on_answer(self, sent: Sent, answer: Any) -> None:
        if sent.is_answered:
            return
        sent.is_answered = True
        if isinstance(answer, dict) and answer.get("ok"):
            self._advance(sent, str(answer.get("status")))
        else:
            error = answer.get("error", {}) if isinstance(answer, dict) else {}
            sent.status = "failed"
            self._tick("✗", sent, f"{error.get('code')}: {error.get('message')}")
        if all(other.is_answered for other in self._sent.values()):
            self._all_answered.set()

    async def _on_status(self, status: dict[str, Any]) -> None:
        sent = self._sent.get(str(status.get("clientId")))
        if sent is not None:
            self._advance(sent, str(status.get("status")), str(status.get("error") or ""))

    def _advance(self, sent: Sent, status: str, reason: str = "") -> None:
        if _RANK.get(status, 0) > _RANK[sent.status]:
            sent.status = status
            self._tick(_TICKS[status], sent, reason)

    def _tick(self, tick: str, sent: Sent, reason: str = "") -> None:
        quoted = sent.text if len(sent.text) <= _QUOTED_CHARS else sent.text[: _QUOTED_CHARS - 1] + "…"
        self._say(f"  {tick}  {_harmless(quoted)}" + (f"   {_harmless(reason)}" if reason else ""))

    async def _on_new_message(self, message: dict[str, Any]) -> None:
        """Returning acknowledges the event, which says that this device has the message."""
        self._show(message)
        await self._mark_read(message["conversationId"], message["seq"], message["senderId"])

    async def _on_offline_messages(self, page: dict[str, Any]) -> None:
        read: dict[str, tuple[int, str]] = {}
        for message in page["messages"]:
            self._show(message)
            read[message["conversationId"]] = (message["seq"], message["senderId"])
        for conversation_id, (seq, sender_id) in read.items():
            await self._mark_read(conversation_id, seq, sender_id)

    async def _on_broadcast(self, broadcast: dict[str, Any]) -> None:
        if broadcast["broadcastId"] not in self._seen:
            self._seen.add(broadcast["broadcastId"])
            self._say(_harmless(f"!!! {broadcast['title']}: {broadcast['content']}"))

    def _show(self, message: dict[str, Any]) -> None:
        if message["id"] in self._seen:
            return  # due until confirmed: it may come again
        self._seen.add(message["id"])
        if not self._target:
            self._target = {"conversationId": message["conversationId"]}
        group_id = names.group_of(message["conversationId"])
        who = "you, elsewhere" if message["senderId"] == self._user_id else message["senderName"]
        where = f" in {group_id}" if group_id else ""
        kind = "" if message["type"] == "text" else f"[{message['type']}] "
        self._say(_harmless(f"{who}{where}: {kind}{message['content']}"))

    async def _mark_read(self, conversation_id: str, seq: int, sender_id: str) -> None:
        if sender_id == self._user_id:
            return
        try:
            await self._client.emit("mark_as_read", {"conversationId": conversation_id, "seq": seq})
        except socketio.exceptions.SocketIOError:
            return  # the next message's mark covers this one too

    async def _on_auth_success(self, answer: dict[str, Any]) -> None:
        self._say(f"· signed in as {_harmless(str(answer.get('userName')))}")
        self._signed_in.set()
        for sent in list(self._sent.values()):
            if not sent.is_answered:
                await self._send(sent)

    async def _on_auth_failed(self, refusal: dict[str, Any]) -> None:
        self._refuse(refusal)

    async def _on_connect_error(self, refusal: Any) -> None:
        if isinstance(refusal, dict):
            data = refusal.get("data") or {}
            self._refuse({"message": refusal.get("message")} | (data if isinstance(data, dict) else {}))

    def _refuse(self, refusal: dict[str, Any]) -> None:
        words = f"sign-in refused: {refusal.get('code')}: {refusal.get('message')}"
        self._refusal = words
        if refusal.get("retryable"):
            self._say(f"! {words}")
        else:
            self._refused.set()

    async def _on_token_expiring(self, _: dict[str, Any]) -> None:
        await self._client.emit("authenticate", {"token": self._token()})

    async def _on_message_error(self, refusal: dict[str, Any]) -> None:
        sent = self._sent.get(str(refusal.get("clientId")))
        if sent is not None:
            self._on_answer(sent, {"error": {"code": refusal.get("code"), "message": refusal.get("error")}})

    async def _on_error(self, refusal: dict[str, Any]) -> None:
        self._say(_harmless(f"! {refusal.get('event')}: {refusal.get('code')}: {refusal.get('message')}"))

    async def _on_disconnect(self, *_: Any) -> None:
        self._signed_in.clear()
        if not self._is_leaving:
            self._say("· not connected; trying again")


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str | None]) -> None:
    """Put standard input's lines into `lines`, then None, from a thread: it may be a file, pipe or terminal.

    The thread ends with the process, whatever it waits for; `os.read` holds no lock that would matter then.
    """

    def put(line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        rest = ""
        try:
            while data := os.read(0, 65536):
                *whole, rest = (rest + decode(data)).split("\n")
                for line in whole:
                    put(line)
            if rest:
                put(rest)
            put(None)
        except (RuntimeError, OSError):
            return  # the loop has closed, or the terminal

    threading.Thread(target=read, name="stdin", daemon=True).start()


def _harmless(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join("�" if unicodedata.category(char) == "Cc" else char for char in text)
