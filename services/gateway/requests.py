"""What clients ask: each event is answered here, made a frame for a router, or refused with a code.

This is the `Application` behind the sockets. It takes nothing on trust: who asks is who signed in.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import msgspec

from libs.clock import now_ms
from libs.identity.envelopes import tells_author
from libs.telemetry.tracing import Tracing
from libs.wire import events, names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Confirm, History, Join, Origin, PublishKeys, Search, Send, TakeKeys
from services.gateway import anonymity, broadcasts, bundles
from services.gateway.catchup import CatchUp
from services.gateway.confirmations import Confirmations
from services.gateway.door import Door
from services.gateway.keystrokes import Keystrokes
from services.gateway.metrics import GatewayMetrics
from services.gateway.minutes import Minutes
from services.gateway.pace import Paces
from services.gateway.sessions import Session, Sessions, Socket, State
from services.gateway.standings import Standings
from services.gateway.uplink import Uplink
from services.gateway.watching import Watching

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
        confirmations: Confirmations,
        watching: Watching,
        standings: Standings,
        metrics: GatewayMetrics,
        spawn: Spawn,
        paces: Paces,
        minutes: Minutes,
        keystrokes: Keystrokes,
        tracing: Tracing,
    ) -> None:
        self._gateway = gateway
        self._door = door
        self._sessions = sessions
        self._uplink = uplink
        self._catchup = catchup
        self._confirmations = confirmations
        self._watching = watching
        self._standings = standings
        self._metrics = metrics
        self._confirm_s = metrics.confirm_s.of()
        self._spawn = spawn
        self._paces = paces
        self._minutes = minutes
        self._keystrokes = keystrokes
        self._tracing = tracing
        self._numbers = count(1)
        self._events = {name: metrics.events.labels(name) for name in (*events.type_of_event, "unknown")}

    # --- services.gateway.sockets.Application --------------------------------------------------

    async def handshake(self, socket: Socket, auth: dict[str, Any]) -> None:
        """A client connects."""
        await self._door.handshake(socket, auth)

    def opened(self, socket: Socket) -> None:
        """The client heard that it is connected."""
        self._door.opened(socket)

    def closed(self, socket: Socket) -> None:
        """The socket is gone."""
        session = self._sessions.by_socket(socket.id)
        if session is not None:
            self._keystrokes.closed(session)
            self._watching.forget(session)
            self._confirmations.left(session.user_id)
        self._door.closed(socket)

    def event(self, socket: Socket, ack: int | None, text: bytes) -> None:
        """An event. Raises `Refusal` for what is no event at all; anything else is refused to the client."""
        name, argument = events.split(text)
        known = name if name in events.type_of_event else "unknown"
        self._events[known].inc()
        try:
            self._paces.frame(socket)
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
        """The client has something we sent."""
        if not self._paces.acknowledgement(socket):
            self._metrics.confirms_dropped.inc()
            return
        session = self._sessions.by_socket(socket.id)
        expected = session.take_expected(ack) if session is not None else None
        if session is None or expected is None:
            return
        self._confirm_s.observe(time.monotonic() - expected.at)
        for conversation_id, seqs in expected.confirms:
            self._confirmations.note(session.user_id, conversation_id, seqs, expected.mark)
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

    def _take(  # noqa: C901, PLR0912 - an arm an event, none longer than a few lines
        self, session: Session, ack: int | None, name: str, event: msgspec.Struct
    ) -> None:
        self._minutes.count(session, name)
        origin = Origin(self._gateway, session.id, ack)
        match event:
            case events.SendMessage():
                self._send(session, origin, event.draft(session.user_id))
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
            case events.Typing():
                self._keystrokes.typed(session, origin, name, event)
            case events.Sync():
                for place in event.cursors:
                    events.target(place, session.user_id)
                self._catchup.sync(session, event.cursors, event.budget_bytes)
                self._answer(session, ack)
            case events.Heartbeat():
                beat = payloads.HeartbeatAck(now_ms(), event.client_time)
                session.socket.emit("heartbeat_ack", payloads.encode(beat))
                if ack is not None:
                    session.socket.answer(ack, payloads.accepted_with(beat))
            case events.PublishKeys() | events.GetKeys() | events.SearchMessages():
                self._take_for_user(session, origin, event)
            case events.GetPresence() | events.UpdatePresence():
                self._take_presence(session, ack, name, event)
            case _:
                raise Refusal(Code.UNKNOWN_EVENT)

    def _send(self, session: Session, origin: Origin, draft: events.Draft) -> None:
        if draft.is_anonymous:
            draft = anonymity.checked(draft, session.user_id)
        frame = Send(origin, session.sender, draft, now_ms())
        # When who wrote is hidden, nobody is to know which gateway a message came in by, or goes out.
        if self._tracing.is_on and not tells_author(frame) and (trace := self._tracing.take()):
            frame = msgspec.structs.replace(frame, trace=trace)
        recipient = anonymity.recipient_of(draft, session.user_id)
        if recipient is not None:
            self._uplink.publish_for_user(recipient, frame)
        else:
            self._uplink.publish_for_conversation(draft.conversation_id, frame)

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
        if event.user_id is not None:
            left_id = event.user_id
        else:
            conversation_id, bare_id = _joined(event, session.user_id)
            left_id = bare_id or names.group_of(conversation_id) or conversation_id
        session.socket.emit("group_left", payloads.encode(payloads.GroupJoined(left_id)))
        self._answer(session, ack)

    def _take_for_user(
        self, session: Session, origin: Origin, event: events.PublishKeys | events.GetKeys | events.SearchMessages
    ) -> None:
        """What the partition of a user answers."""
        user_id = session.user_id
        match event:
            case events.PublishKeys():
                bundles.check(event)
                self._uplink.publish_for_user(user_id, PublishKeys(origin, user_id, event, self._request()))
            case events.GetKeys(user_id=owner_id):
                if not names.is_id(owner_id):
                    raise Refusal(Code.INVALID_PAYLOAD, "This is not the id of a user.")
                if origin.ack is None:  # one-time keys must not go where nobody waits for them
                    raise Refusal(Code.INVALID_PAYLOAD, "get_keys is answered by acknowledgement: ask for one.")
                self._uplink.publish_for_user(owner_id, TakeKeys(origin, user_id, owner_id, self._request()))
            case events.SearchMessages(query=query, conversation_id=place):
                event.check()
                conversation_id, bare_id = events.target(place, user_id) if place is not None else (None, None)
                frame = Search(origin, user_id, query, event.limit, conversation_id, bare_id)
                self._uplink.publish_for_user(user_id, frame)

    def _request(self) -> str:
        """A name for a request, which no other has: gateways have a new name with every start."""
        return f"{self._gateway}:{next(self._numbers)}"

    def _take_presence(
        self, session: Session, ack: int | None, name: str, event: events.GetPresence | events.UpdatePresence
    ) -> None:
        match event:
            case events.SubscribePresence():
                self._watching.watch(session, event.check())
                self._answer(session, ack)
            case events.UnsubscribePresence():
                self._watching.unwatch(session, event.check())
                self._answer(session, ack)
            case events.GetPresence():
                self._spawn(self._answer_later(session, ack, name, self._standings.presence(event.check())))
            case events.UpdatePresence():
                chosen = self._standings.choose(session.user_id, event.status)
                self._spawn(self._answer_later(session, ack, name, chosen))

    async def _answer_later(self, session: Session, ack: int | None, name: str, answer: Awaitable[bytes]) -> None:
        """What this gateway answers by itself, once the broker has been asked."""
        try:
            body = await answer
        except Refusal as refusal:
            self._refuse(session.socket, ack, name, msgspec.Raw(), refusal)
        else:
            if ack is not None:
                session.socket.answer(ack, body)

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
    metadata = said.get("metadata")
    old_id = metadata.get("clientMessageId") if isinstance(metadata, dict) else None
    ids = (said.get("id") or said.get("messageId"), said.get("clientId") or old_id)
    message_id, client_id = (i[: events.MAX_CLIENT_ID_CHARS] if isinstance(i, str) else None for i in ids)
    return message_id, client_id
