"""This gateway's streams → sessions.

One reader, which starts at the beginning of both streams; the heartbeat trims what it has taken. Broadcasts have a
stream of their own, which comes first. Sections under an older fencing token than one seen before are refused
(`fence`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, get_args

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.identity import Envelopes, Unopenable
from libs.streams import consumer
from libs.telemetry.tracing import Tracing
from libs.wire import codec
from libs.wire.frames import (
    Alarm,
    Answer,
    CanaryReply,
    Downlink,
    DuePage,
    Emit,
    Moved,
    PresenceChanges,
    SealedReply,
    Section,
    SignedIn,
    SignedOut,
    TypingNotice,
)
from services.gateway import packets
from services.gateway.alarms import Alarms
from services.gateway.catchup import CatchUp
from services.gateway.door import Door
from services.gateway.fence import Fence
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Acks, Session, Sessions, State
from services.gateway.typists import Typists
from services.gateway.watching import Watching

log = structlog.get_logger(__name__)

BLOCK_MS: Final = 1000
_READ_ENTRIES: Final = 200
_BACKOFF_S: Final = 0.25
# Far more entries than come between one trim and the next.
_TAKEN_MAX: Final = 4096
# Ticks on a message that was sent a while ago go with what comes next.
_PATIENT: Final = frozenset({"message_delivery_status", "message_read"})


class DownlinkReader:
    """Reads frames and hands them to the sessions they are for."""

    def __init__(
        self,
        reader: Broker,
        gateway: str,
        sessions: Sessions,
        catchup: CatchUp,
        door: Door,
        questions: Questions,
        typists: Typists,
        watching: Watching,
        alarms: Alarms,
        acks: Acks,
        fence: Fence,
        succeeded: Callable[[], None],
        metrics: GatewayMetrics,
        envelopes: Envelopes | None = None,
        heard: Callable[[CanaryReply], None] = lambda _: None,
        tracing: Tracing | None = None,
    ) -> None:
        self._reader = reader
        self._sessions = sessions
        self._catchup = catchup
        self._door = door
        self._questions = questions
        self._typists = typists
        self._watching = watching
        self._alarms = alarms
        self._acks = acks
        self._metrics = metrics
        self._envelopes = envelopes
        self._heard = heard
        self._tracing = tracing or Tracing()
        # The entry that is being taken.
        self._entry_id = consumer.BEGINNING
        # Reads that the broker did not answer.
        self.failures = 0
        self._counts = {kind: metrics.downlink_frames.labels(kind.__name__.lower()) for kind in get_args(Downlink)}
        self._fence = fence
        self._succeeded = succeeded
        # How many servers had taken another's place when it was last read.
        self._successions = 0
        # What was taken last, by its id, and a hash of it: who begins anew meets some of it again.
        self._taken: dict[tuple[str, str], int] = {}
        # What was taken of each stream, in the order they are taken in.
        self.positions = {keys.alarms(gateway): consumer.BEGINNING, keys.downlink(gateway): consumer.BEGINNING}

    def rewind(self) -> None:
        """The streams were made anew, or are another server's: nothing in them has been read."""
        self.positions = dict.fromkeys(self.positions, consumer.BEGINNING)

    async def run(self) -> None:
        """Read until cancelled."""
        async with consumer.reading(self._reader) as reads:
            while True:
                positions = self.positions
                try:
                    read = await reads.read(positions, count=_READ_ENTRIES, block_ms=BLOCK_MS)
                except AWAY as error:
                    log.warning("downlink: the broker is away", error=type(error).__name__)
                    self.failures += 1
                    await asyncio.sleep(_BACKOFF_S)
                    continue
                if self._reader.successions != self._successions:
                    # It may know less than was said here, and be told of newer things first.
                    self._successions = self._reader.successions
                    self._succeeded()
                if positions is not self.positions:
                    continue  # rewound meanwhile: it is read again, from the beginning
                for stream in positions:
                    for entry in read.get(stream, ()):
                        if self._is_new(stream, entry):
                            self._take_entry(entry)
                        positions[stream] = entry.id

    def _is_new(self, stream: str, entry: consumer.Entry) -> bool:
        """Else it was taken before a rewind, and its statuses are old by now.

        A server that took another's place, and whose clock is behind, gives ids again that went with the other's tail.
        """
        place, said = (stream, entry.id), hash(entry.frames)
        if self._taken.get(place) == said:
            return False
        self._taken[place] = said
        if len(self._taken) > _TAKEN_MAX:
            del self._taken[next(iter(self._taken))]
        return True

    def _take_entry(self, entry: consumer.Entry) -> None:
        if entry.frames is None:
            return
        self._entry_id = entry.id
        self._metrics.downlink_s.observe(max(0.0, time.time() - int(entry.id.partition("-")[0]) / 1000))
        try:
            sections = codec.unpack_downlink(entry.frames)
        except codec.Unreadable:
            sections, unreadable = codec.unpack_downlink_by_frame(entry.frames)
            self._metrics.unreadable.inc(unreadable)
        for section in sections:
            if self._fence.passes(section):
                for frame in section.frames:
                    self._take(frame)
                    self._counts[type(frame)].inc()
            else:
                self._metrics.fenced.inc()
                self._fetch(section)

    def _take(self, frame: Downlink) -> None:  # noqa: C901, PLR0912 - an arm a frame, each a line or two
        match frame:
            case Emit():
                self._emit(frame)
            case Answer():
                self._answer(frame)
            case DuePage():
                session = self._sessions.by_socket(frame.session)
                if session is not None:
                    self._catchup.page(session, frame)
                    self._metrics.messages_sent.inc(sum(len(seqs) for _, seqs in frame.confirms))
            case PresenceChanges():
                self._watching.take(frame)
            case Alarm():
                self._alarms.sound(frame)
            case Moved():
                self._alarms.moved(frame)
            case SealedReply():
                self._open(frame)
            case TypingNotice():
                self._typists.notice(frame)
            case SignedIn():
                if not self._questions.answered(frame):
                    self._door.checked(frame)
            case SignedOut():
                self._door.sign_out(frame)
            case CanaryReply():
                self._heard(frame)

    def _emit(self, frame: Emit) -> None:
        sessions = [
            session
            for user in frame.users
            for session in self._sessions.of_user(user)
            if session.id != frame.skip_session
        ]
        if frame.seq:
            self._emit_due(sessions, frame)
        elif sessions:
            packet, is_patient = packets.event(frame.event, frame.body), frame.event in _PATIENT
            for session in sessions:
                if session.state is State.JOINING:
                    continue
                if is_patient:
                    session.socket.say_soon(packet)
                else:
                    session.socket.say(packet)

    def _emit_due(self, sessions: Sequence[Session], frame: Emit) -> None:
        due = self._acks.message(frame.event, frame.body, frame.conversation_id, frame.seq, frame.mark)
        for session in sessions:
            if session.walk is None or not self._catchup.hold(session, due):
                session.emit_due(due)
        self._metrics.messages_sent.inc(len(sessions))
        if frame.trace:
            self._tracing.note(frame.trace, "send", consumer.at_ns(self._entry_id), sockets=len(sessions))

    def _fetch(self, section: Section) -> None:
        """What was refused is due. Perhaps an owner said it whose token the broker gave too low, and says it once.

        So who it was said to fetches it, and is shown nothing of what the next owner says before.
        """
        users = {user for frame in section.frames if isinstance(frame, Emit) and frame.seq for user in frame.users}
        for user in users:
            for session in self._sessions.of_user(user):
                self._catchup.again(session)

    def _open(self, sealed: SealedReply) -> None:
        try:
            if self._envelopes is not None:
                self._take(self._envelopes.open_reply(sealed))
        except Unopenable:
            self._metrics.unreadable.inc()

    def _answer(self, frame: Answer) -> None:
        session_id, ack = frame.session, frame.ack
        if self._envelopes is not None:
            session_id, sealed_ack = self._envelopes.open_session(frame.session)
            ack = sealed_ack if ack is None else ack
        session = self._sessions.by_socket(session_id)
        if session is None:
            self._questions.answered(frame)
            return
        if ack is not None:
            session.socket.answer(ack, frame.body)
        for event, body in frame.emits:
            session.socket.emit(event, body)
