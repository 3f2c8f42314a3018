"""What clients ask: each event is answered here, made a frame for a router, or refused with a code.

This is the `Application` behind the sockets. It takes nothing on trust: who asks is who signed in.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from libs.clock import now_ms
from libs.wire import events, names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Confirm, History, Join, Origin, Send
from services.gateway import broadcasts
from services.gateway.catchup import CatchUp
from services.gateway.door import Door
from services.gateway.metrics import GatewayMetrics
from services.gateway.sessions import Session, Sessions, Socket, State
from services.gateway.uplink import Uplink

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Requests:
    """Reads events and acknowledgements."""

    def __init__(
        self,
        gateway: str,
        door: Door,
        sessions: Sessions,
        uplink: Uplink,
        catchup: CatchUp,
        metrics: GatewayMetrics,
        spawn: Spawn,
    ) -> None:
        self._gateway = gateway
        self._door = door
        self._sessions = sessions
        self._uplink = uplink
        self._catchup = catchup
        self._metrics = metrics
        self._spawn = spawn

    # --- services.gateway.sockets.Application --------------------------------------------------

    async def handshake(self, socket: Socket, auth: dict[str, Any]) -> None:
        """A client connects."""
        await self._door.handshake(socket, auth)

    def opened(self, socket: Socket) -> None:
        """The client heard that it is connected."""
        self._door.opened(socket)

    def closed(self, socket: Socket) -> None:
        """The socket is gone."""
        self._door.closed(socket)

    def event(self, socket: Socket, ack: int | None, text: str) -> None:
        """An event. Raises `Refusal` for what is no event at all; anything else is refused to the client."""
        name, argument = events.split(text)
        known = name if name in events.type_of_event else "unknown"
        self._metrics.events.labels(known).inc()
        try:
            event = events.read(name, argument) if name == "authenticate" else self._read(socket, name, argument)
            if isinstance(event, events.Authenticate):
                offered = {"token": event.token, "resumeTicket": event.resume_ticket}
                self._spawn(self._door.authenticate(socket, ack, offered))
                return
            session = self._sessions.by_socket(socket.id)
            if session is not None:
                self._take(session, ack, name, event)
        except Refusal as refusal:
            self._refuse(socket, ack, name, argument, refusal)

    def acknowledged(self, socket: Socket, ack: int) -> None:
        """The client has something we sent. An uplink that is full loses nothing: it stays due."""
        session = self._sessions.by_socket(socket.id)
        expected = session.take_expected(ack) if session is not None else None
        if session is None or expected is None:
            return
        origin = Origin(self._gateway, session.id)
        for conversation_id, seqs in expected.confirms:
            try:
                self._uplink.publish_for_conversation(
                    conversation_id, Confirm(origin, session.user_id, conversation_id, seqs, at_ms=now_ms())
                )
            except Refusal:
                self._metrics.confirms_dropped.inc()
        if expected.is_page:
            self._catchup.page_confirmed(session)
        elif expected.walk:
            self._catchup.alarm_confirmed(session, expected.walk)

    # --- event by event ------------------------------------------------------------------------

    def _read(self, socket: Socket, name: str, argument: msgspec.Raw) -> msgspec.Struct:
        session = self._sessions.by_socket(socket.id)
        if session is None or session.state is State.JOINING:
            raise Refusal(Code.NOT_AUTHENTICATED)
        return events.read(name, argument)

    def _take(self, session: Session, ack: int | None, name: str, event: msgspec.Struct) -> None:
        origin = Origin(self._gateway, session.id, ack)
        match event:
            case events.SendMessage():
                draft = event.draft(session.user_id)
                self._uplink.publish_for_conversation(
                    draft.conversation_id, Send(origin, session.sender, draft, now_ms())
                )
            case events.MessageDelivered():
                self._confirm(session, origin, name, event)
            case events.GetConversationHistory():
                conversation_id, bare_id = events.target(event.conversation_id, session.user_id)
                self._uplink.publish_for_conversation(
                    conversation_id,
                    History(origin, session.user_id, conversation_id, event.limit, event.before, event.after, bare_id),
                )
            case events.EmergencyBroadcast():
                self._uplink.publish_alarm(broadcasts.frame(event, origin, session.sender))
            case events.LeaveGroup():
                self._leave(session, ack, event)
            case events.JoinGroup():
                self._join(session, origin, name, event)
            case events.Sync():
                cursors = {events.target(key, session.user_id)[0]: seq for key, seq in event.cursors.items()}
                self._catchup.sync(session, cursors, event.budget_bytes)
                self._answer(session, ack)
            case events.Heartbeat():
                beat = payloads.HeartbeatAck(now_ms(), event.client_time)
                session.socket.emit("heartbeat_ack", payloads.encode(beat))
                if ack is not None:
                    session.socket.answer(ack, payloads.accepted_with(beat))
            case _:
                raise Refusal(Code.UNKNOWN_EVENT)

    def _confirm(self, session: Session, origin: Origin, name: str, event: events.MessageDelivered) -> None:
        is_read = isinstance(event, events.MarkAsRead)
        if event.message_id is not None:
            frame = Confirm(
                origin,
                session.user_id,
                "",
                message_id=event.message_id,
                read=is_read,
                at_ms=now_ms(),
                event=name,
            )
            self._uplink.publish_for_message(event.message_id, frame)
        elif event.conversation_id is not None and event.seq is not None:
            conversation_id, bare_id = events.target(event.conversation_id, session.user_id)
            frame = Confirm(
                origin,
                session.user_id,
                conversation_id,
                up_to=event.seq,
                read=is_read,
                at_ms=now_ms(),
                event=name,
                bare_id=bare_id,
            )
            self._uplink.publish_for_conversation(conversation_id, frame)
        else:
            raise Refusal(Code.INVALID_PAYLOAD, f"{name} takes messageId, or conversationId and seq.")

    def _join(self, session: Session, origin: Origin, name: str, event: events.JoinGroup) -> None:
        if event.user_id is not None:
            if event.user_id != session.user_id:
                raise Refusal(Code.ACCESS_DENIED)
            joined = payloads.GroupJoined(event.user_id)
            session.socket.emit("group_joined", payloads.encode(joined))
            self._answer(session, origin.ack)
            return
        conversation_id, bare_id = _joined(event, session.user_id)
        self._uplink.publish_for_conversation(
            conversation_id, Join(origin, session.user_id, conversation_id, name, bare_id)
        )

    def _leave(self, session: Session, ack: int | None, event: events.LeaveGroup) -> None:
        """Nothing was kept, so there is nothing to undo: delivery follows membership."""
        conversation_id, bare_id = _joined(event, session.user_id)
        left = payloads.GroupJoined(bare_id or names.group_of(conversation_id) or conversation_id)
        session.socket.emit("group_left", payloads.encode(left))
        self._answer(session, ack)

    def _answer(self, session: Session, ack: int | None) -> None:
        if ack is not None:
            session.socket.answer(ack, payloads.encode(payloads.Ok()))

    # --- refusals ------------------------------------------------------------------------------

    def _refuse(self, socket: Socket, ack: int | None, name: str, argument: msgspec.Raw, refusal: Refusal) -> None:
        self._metrics.refusals.labels(refusal.code.value).inc()
        if ack is not None:
            socket.answer(ack, payloads.encode(payloads.refused(refusal)))
        if name == "send_message":
            message_id, client_id = _ids(argument)
            error = payloads.MessageError(refusal.code.value, refusal.message, message_id, client_id)
            socket.emit("message_error", payloads.encode(error))
        else:
            said = payloads.ErrorEvent(refusal.code.value, refusal.message, name[:64])
            socket.emit("error", payloads.encode(said))


def _joined(event: events.JoinGroup, viewer_id: str) -> tuple[str, str | None]:
    if event.group_id is not None:
        group_id = names.group_of(event.group_id) or event.group_id
        if not names.is_id(group_id):
            raise Refusal(Code.INVALID_PAYLOAD, "This is not the id of a group.")
        return names.group(group_id), None
    if event.conversation_id is not None:
        return events.target(event.conversation_id, viewer_id)
    raise Refusal(Code.INVALID_PAYLOAD, "Say which: groupId, conversationId or userId.")


def _ids(argument: msgspec.Raw) -> tuple[str | None, str | None]:
    """The client's own ids of a message whose shape was refused, as far as they can be read."""
    try:
        said = msgspec.json.decode(argument)
    except events.UNREADABLE:
        return None, None
    if not isinstance(said, dict):
        return None, None
    ids = (said.get("id") or said.get("messageId"), said.get("clientId"))
    message_id, client_id = (i[: events.MAX_CLIENT_ID_CHARS] if isinstance(i, str) else None for i in ids)
    return message_id, client_id
