"""This gateway's stream → sessions.

One reader, which starts at the beginning of the stream and trims what it has taken. Sections under an
older fencing token than one seen before are refused: their router lost its partition, and whoever owns
it now says everything again.
"""

import asyncio
import time
from typing import Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.streams import consumer
from libs.wire import codec
from libs.wire.frames import Answer, Downlink, DuePage, Emit, Section, SignedIn, SignedOut
from services.gateway.catchup import CatchUp
from services.gateway.door import Door
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Session, Sessions, State

log = structlog.get_logger(__name__)

BLOCK_MS: Final = 1000
_READ_ENTRIES: Final = 200
_BACKOFF_S: Final = 0.25


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
        metrics: GatewayMetrics,
    ) -> None:
        self._reader = reader
        self._stream = keys.downlink(gateway)
        self._sessions = sessions
        self._catchup = catchup
        self._door = door
        self._questions = questions
        self._metrics = metrics
        self._tokens: dict[int, int] = {}
        self.position = consumer.BEGINNING

    def rewind(self) -> None:
        """The stream was made anew: nothing in it has been read."""
        self.position = consumer.BEGINNING

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                read = await consumer.read(
                    self._reader, {self._stream: self.position}, count=_READ_ENTRIES, block_ms=BLOCK_MS
                )
            except AWAY as error:
                log.warning("downlink: the broker is away", error=type(error).__name__)
                await asyncio.sleep(_BACKOFF_S)
                continue
            for entry in read.get(self._stream, ()):
                self._take_entry(entry)
                self.position = entry.id

    def _take_entry(self, entry: consumer.Entry) -> None:
        if entry.frames is None:
            return
        self._metrics.downlink_s.observe(max(0.0, time.time() - int(entry.id.partition("-")[0]) / 1000))
        try:
            sections = codec.unpack_downlink(entry.frames)
        except codec.Unreadable:
            self._metrics.unreadable.inc()
            return
        for section in sections:
            if self._passes(section):
                for frame in section.frames:
                    self._take(frame)
            else:
                self._metrics.fenced.inc()

    def _passes(self, section: Section) -> bool:
        newest = self._tokens.get(section.partition, 0)
        self._tokens[section.partition] = max(newest, section.token)
        return section.token >= newest

    def _take(self, frame: Downlink) -> None:
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
            case SignedIn():
                if not self._questions.answered(frame):
                    self._door.checked(frame)
            case SignedOut():
                self._door.sign_out(frame)
        self._metrics.downlink_frames.labels(type(frame).__name__.lower()).inc()

    def _emit(self, frame: Emit) -> None:
        emitted = 0
        for user in frame.users:
            for session in self._sessions.of_user(user):
                if session.id != frame.skip_session:
                    self._emit_to(session, frame)
                    emitted += 1
        if frame.seq:
            self._metrics.messages_sent.inc(emitted)

    def _emit_to(self, session: Session, frame: Emit) -> None:
        if frame.seq:
            if not self._catchup.hold(session, frame):
                session.emit_due(frame.event, frame.body, frame.conversation_id, frame.seq)
        elif session.state is not State.JOINING:
            session.socket.emit(frame.event, frame.body)

    def _answer(self, frame: Answer) -> None:
        session = self._sessions.by_socket(frame.session)
        if session is None:
            self._questions.answered(frame)
            return
        if frame.ack is not None:
            session.socket.answer(frame.ack, frame.body)
        for event, body in frame.emits:
            session.socket.emit(event, body)
