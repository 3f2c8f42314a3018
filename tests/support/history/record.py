"""History: what each device sent and received, in the order it happened.

A *device* keeps the ids it has seen over reconnects: it is a phone, not a connection. `index` rises by
one with everything recorded, over all devices; times are milliseconds since 1970 on the test's clock.
"""

from dataclasses import dataclass, field
from time import time
from typing import Any, Final

NEW_MESSAGE: Final = "new_message"
OFFLINE_MESSAGES: Final = "offline_messages"
CONVERSATION_HISTORY: Final = "conversation_history"


@dataclass
class Sent:
    """One try to send a message. A client that heard nothing tries again with the same `client_id`."""

    device: str
    client_id: str
    to: str
    index: int
    at_ms: int
    answer: dict[str, Any] | None = None
    answered_index: int | None = None
    answered_ms: int | None = None

    @property
    def accepted(self) -> bool:
        """Whether the answer was `sent` or `queued`: from here on the message must not be lost."""
        return self.answer is not None and self.answer.get("ok") is True

    @property
    def refused(self) -> bool:
        """Whether the answer was a refusal."""
        return self.answer is not None and not self.accepted


@dataclass(frozen=True)
class Sighting:
    """A device saw a message. `via` is the event that brought it."""

    device: str
    message_id: str
    seq: int
    conversation_id: str
    sender_id: str
    client_id: str
    via: str
    index: int
    at_ms: int
    urgent: bool = False

    @property
    def pushed(self) -> bool:
        """Whether the server sent it of its own accord, and so chose the order."""
        return self.via != CONVERSATION_HISTORY


@dataclass(frozen=True)
class Status:
    """A device was told how far a message has come."""

    device: str
    message_id: str
    seq: int
    conversation_id: str
    client_id: str
    status: str
    index: int
    at_ms: int


@dataclass
class History:
    """Everything that all clients of a test sent and received. Clients write it; `check` reads it."""

    users: dict[str, str] = field(default_factory=dict)
    """The user of each device, from `auth_success` or as the test said."""
    sent: list[Sent] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    signed_in: list[tuple[str, int]] = field(default_factory=list)
    """Device and index of every `auth_success`."""
    malformed: list[str] = field(default_factory=list)
    """What could not be read as PROTOCOL has it: a finding, whatever else is right."""
    _recorded: int = field(default=0, repr=False)

    def user_of(self, device: str) -> str:
        """The user of `device`; the device's own name while nobody has signed in on it."""
        return self.users.get(device, device)

    def record_send(self, device: str, payload: dict[str, Any]) -> Sent:
        """A `send_message` in either shape leaves `device`. The answer comes with `record_answer`."""
        metadata = payload.get("metadata")
        old_id = metadata.get("clientMessageId") if isinstance(metadata, dict) else None
        client_id = payload.get("clientId") or old_id or payload.get("id") or payload.get("messageId") or ""
        to = payload.get("groupId") or payload.get("recipientId") or payload.get("conversationId") or ""
        sent = Sent(device, str(client_id), str(to), self._next_index(), _now_ms())
        self.sent.append(sent)
        return sent

    def record_answer(self, sent: Sent, answer: object) -> None:
        """The acknowledgement of a `send_message` came back."""
        index = self._next_index()
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            self.malformed.append(f"{sent.device}: answer to {sent.client_id!r} is {answer!r}")
            return
        if answer["ok"]:
            try:
                _check_fields(answer, messageId=str, seq=int, conversationId=str, status=str)
            except (KeyError, TypeError) as error:
                self.malformed.append(f"{sent.device}: answer to {sent.client_id!r}: {error}: {answer!r}")
                return
        sent.answer, sent.answered_index, sent.answered_ms = answer, index, _now_ms()

    def record_event(self, device: str, event: str, payload: object) -> None:
        """`device` received `event`. Those that say nothing about messages are not kept."""
        try:
            match event, payload:
                case "auth_success", {"userId": str(user_id)}:
                    self.users[device] = user_id
                    self.signed_in.append((device, self._next_index()))
                case "new_message", _:
                    self._see(device, event, payload)
                case (("offline_messages" | "conversation_history"), {"messages": list(messages)}):
                    for message in messages:
                        self._see(device, event, message)
                case "message_delivery_status", _:
                    self._hear(device, payload)
                case (("auth_success" | "offline_messages" | "conversation_history"), _):
                    self.malformed.append(f"{device}: {event} is {payload!r}")
        except (KeyError, TypeError) as error:
            self.malformed.append(f"{device}: {event}: {error}: {payload!r}")

    def seen_by(self, device: str) -> set[str]:
        """The ids of all messages `device` has seen."""
        return {sighting.message_id for sighting in self.sightings if sighting.device == device}

    def _next_index(self) -> int:
        self._recorded += 1
        return self._recorded

    def _see(self, device: str, event: str, message: Any) -> None:
        _check_fields(message, id=str, seq=int, conversationId=str, senderId=str, clientId=str)
        self.sightings.append(
            Sighting(
                device=device,
                message_id=message["id"],
                seq=message["seq"],
                conversation_id=message["conversationId"],
                sender_id=message["senderId"],
                client_id=message["clientId"],
                via=event,
                index=self._next_index(),
                at_ms=_now_ms(),
                urgent=message.get("type") == "emergency",
            )
        )

    def _hear(self, device: str, payload: Any) -> None:
        _check_fields(payload, messageId=str, seq=int, conversationId=str, clientId=str, status=str)
        self.statuses.append(
            Status(
                device,
                payload["messageId"],
                payload["seq"],
                payload["conversationId"],
                payload["clientId"],
                payload["status"],
                self._next_index(),
                _now_ms(),
            )
        )


def _check_fields(payload: Any, **kinds: type) -> None:
    """Raises KeyError or TypeError with the name of the field that is missing or of another type."""
    if not isinstance(payload, dict):
        raise TypeError("not an object")
    for name, kind in kinds.items():
        if not isinstance(payload[name], kind) or isinstance(payload[name], bool):
            raise TypeError(f"{name} is not {kind.__name__}")


def _now_ms() -> int:
    return int(time() * 1000)
