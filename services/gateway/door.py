"""How a socket becomes a session, stays one, and stops being one.

A token is checked here, the user's seat is taken, and the router says whether the user is welcome (it
knows who is disabled or revoked). The seat comes first: what is sent from then on reaches this gateway,
and what was sent before is due.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import structlog

from libs.clock import now_ms
from libs.identity import Claims
from libs.wheel import Timeout, Wheel
from libs.wire import payloads
from libs.wire.codes import Code, Refusal, is_retryable
from libs.wire.frames import Moved, Origin, Profile, SignedIn, SignedOut, SignIn
from services.gateway.alarms import Alarms
from services.gateway.auth import Authenticator, offers_anything
from services.gateway.catchup import CatchUp
from services.gateway.heartbeat import Heartbeat
from services.gateway.metrics import GatewayMetrics
from services.gateway.questions import Questions
from services.gateway.sessions import Session, Sessions, Socket, State
from services.gateway.turnstile import Turnstile
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)

_MS: Final = 1000
# After a revival every sign-in is asked about again; spread, so that routers are not asked ten thousand times at once.
_CHECKS_A_SECOND: Final = 500
# No router can be asked, or it cannot ask the store: ask again after this.
_CHECK_AGAIN_S: Final = 5.0
_CODES: Final = frozenset(Code)


class Door:
    """Signs sockets in and out."""

    def __init__(
        self,
        gateway: str,
        authenticator: Authenticator,
        turnstile: Turnstile,
        questions: Questions,
        sessions: Sessions,
        heartbeat: Heartbeat,
        uplink: Uplink,
        catchup: CatchUp,
        alarms: Alarms,
        metrics: GatewayMetrics,
        wheel: Wheel,
        turns: asyncio.Semaphore,
        *,
        sign_in_timeout_s: float,
        answer_timeout_s: float,
        token_warning_s: int,
        token_grace_s: int,
    ) -> None:
        self._gateway = gateway
        self._authenticator = authenticator
        self._turnstile = turnstile
        self._questions = questions
        self._sessions = sessions
        self._heartbeat = heartbeat
        self._uplink = uplink
        self._catchup = catchup
        self._alarms = alarms
        self._metrics = metrics
        self._wheel = wheel
        self._turns = turns
        self._sign_in_timeout_s = sign_in_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._token_warning_s = token_warning_s
        self._token_grace_s = token_grace_s
        # Sockets that have not signed in, and when they are closed for it.
        self._strangers: dict[str, Timeout] = {}
        self._busy: set[str] = set()

    async def handshake(self, socket: Socket, auth: Mapping[str, Any]) -> None:
        """A client connects, perhaps with a token. Raises `Refusal`."""
        if offers_anything(auth):
            await self._turnstile.sign_in(socket.address)
            await self._sign_in(socket, auth)

    def opened(self, socket: Socket) -> None:
        """The client heard that it is connected: welcome it, or ask who it is."""
        session = self._sessions.by_socket(socket.id)
        if session is not None:
            self._welcome(session)
            return
        timer = self._wheel.after(self._sign_in_timeout_s, partial(self._time_out, socket))
        self._strangers[socket.id] = timer
        socket.emit("auth_required", payloads.encode(payloads.AuthRequired(int(self._sign_in_timeout_s * _MS))))

    async def authenticate(self, socket: Socket, ack: int | None, offered: Mapping[str, Any]) -> None:
        """The event `authenticate`, in its turn: a first sign-in, or a fresh token on a live socket."""
        if socket.id in self._busy:
            refusal = Refusal(Code.NOT_AUTHENTICATED, "The sign-in before is under way.")
            self._refuse(socket, ack, refusal)
            return _say(socket, refusal)
        socket_id = socket.id
        self._busy.add(socket_id)
        session = self._sessions.by_socket(socket.id)
        try:
            async with self._turns:
                await self._turnstile.sign_in(socket.address)
                if session.is_gone if session is not None else socket_id not in self._strangers:
                    raise Refusal(Code.UNAVAILABLE)  # the client left meanwhile; nobody hears this
                if session is None:
                    session = await self._sign_in(socket, offered)
                else:
                    await self._renew(session, offered)
        except Refusal as refusal:
            self._refuse(socket, ack, refusal)
            self._send_away(socket, session, refusal)
            return None
        finally:
            self._busy.discard(socket_id)
        if ack is not None:
            socket.answer(ack, payloads.encode(payloads.Ok()))
        return self._welcome(session)

    def _send_away(self, socket: Socket, session: Session | None, refusal: Refusal) -> None:
        if session is not None and is_retryable(refusal.code):
            # The token it came with still holds: nobody is sent away because a router is.
            _say(socket, refusal)
            return
        socket.emit("auth_failed", payloads.encode(payloads.auth_failed(refusal)))
        if is_retryable(refusal.code):
            socket.close_for_retry()
        else:
            socket.close_for_good()

    def closed(self, socket: Socket) -> None:
        """The socket is gone, and its user's seat with it if it was the last."""
        timer = self._strangers.pop(socket.id, None)
        if timer is not None:
            timer.cancel()
        session = self._sessions.by_socket(socket.id)
        if session is not None:
            self._let_go(session)

    def send_back(self, socket: Socket, after_s: float) -> None:
        """Close a socket; its client is told when to be back, on any gateway, with a ticket that is good by then."""
        session = self._sessions.by_socket(socket.id)
        if session is not None and session.state is not State.JOINING:
            session.comes_back = True
            after_ms = round(after_s * _MS)
            told = payloads.Reconnect(after_ms)
            if session.claims.expires_at_ms > now_ms() + after_ms:  # else its sign-in has ended by then: a token is due
                told = payloads.Reconnect(after_ms, self._authenticator.ticket(session.claims))
            socket.emit("reconnect", payloads.encode(told))
        socket.close_for_retry()

    async def role_of(self, token: str) -> str:
        """The role of an ID token's user, for operators' calls. Raises `Refusal`."""
        claims = await self._authenticator.check({"token": token})
        origin = self._questions.origin()
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                return (await self._ask(origin.session, claims)).role
        except TimeoutError as error:
            raise Refusal(Code.UNAVAILABLE) from error

    # --- sign-ins that were made void ----------------------------------------------------------

    def sign_out(self, frame: SignedOut) -> None:
        """Close a user's sockets here, also those that are only joining, but for those that signed in since."""
        for session in self._sessions.of_user(frame.user_id):
            if session.claims.issued_at_ms < frame.valid_after_ms:
                self._void(session, frame.refusal)

    def check_all(self) -> None:
        """Frames may have been lost on their way here, a `SignedOut` among them: ask about every sign-in again."""
        for number, session in enumerate(self._sessions):
            self._wheel.after(number / _CHECKS_A_SECOND, partial(self._check, session))

    def checked(self, said: SignedIn) -> None:
        """A router's word that nobody waits for: the answer to `check_all`, or a late one."""
        session = self._sessions.by_socket(said.session)
        if session is None or said.refusal is None:
            return
        if said.refusal in _CODES and is_retryable(Code(said.refusal)):
            self._check_later(session)
        else:
            self._void(session, said.refusal)

    def _check(self, session: Session) -> None:
        if session.is_gone:
            return
        try:
            self._uplink.publish_for_user(session.user_id, self._sign_in_frame(session.id, session.claims))
        except Refusal:
            self._check_later(session)

    def _check_later(self, session: Session) -> None:
        self._wheel.after(_CHECK_AGAIN_S, partial(self._check, session))

    def _void(self, session: Session, code: str) -> None:
        """A socket that has heard `auth_success` is closed; another finds out in the steps of its sign-in."""
        session.refusal = Refusal(Code(code) if code in _CODES else Code.TOKEN_REVOKED)
        if session.state is not State.JOINING:
            self._metrics.refusals.labels(session.refusal.code.value).inc()
            self._send_away(session.socket, None, session.refusal)

    # --- the steps -----------------------------------------------------------------------------

    async def _sign_in(self, socket: Socket, offered: Mapping[str, Any]) -> Session:
        started = time.perf_counter()
        try:
            claims = await self._authenticator.check(offered)
            session = Session(socket, claims)
            if self._sessions.add(session):
                self._heartbeat.seat(session.user_id)
            try:
                async with asyncio.timeout(self._answer_timeout_s):
                    await self._heartbeat.wait_seated()
                    profile = await self._ask(session.id, claims, self._catchup.prepare(session))
                if session.is_gone:
                    raise Refusal(Code.UNAVAILABLE)  # the client left meanwhile; nobody hears this
                if session.refusal is not None:
                    raise session.refusal
            except TimeoutError as error:
                self._let_go(session)
                raise Refusal(Code.UNAVAILABLE) from error
            except Refusal:
                self._let_go(session)
                raise
        except Refusal as refusal:
            self._metrics.sign_ins.labels(refusal.code.value).inc()
            raise
        self._metrics.sign_ins.labels("ok").inc()
        self._metrics.sign_in_s.observe(time.perf_counter() - started)
        session.name, session.role = profile.name, profile.role
        self._heartbeat.show(session.user_id)
        if not session.has_moved:
            session.places = profile.places
        return session

    async def _renew(self, session: Session, offered: Mapping[str, Any]) -> None:
        claims, places = await self._authenticator.check(offered), session.places
        if claims.user_id != session.user_id:
            raise Refusal(Code.TOKEN_INVALID, "This token is another user's. Connect anew to change users.")
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                profile = await self._ask(session.id, claims)
        except TimeoutError as error:
            raise Refusal(Code.UNAVAILABLE) from error
        session.claims = claims
        session.name, session.role = profile.name, profile.role
        if session.places == places:  # else we heard of a move meanwhile, which is newer
            self._alarms.moved(Moved(session.user_id, profile.places))

    async def _ask(self, session_id: str, claims: Claims, walk: int | None = None) -> Profile:
        frame = self._sign_in_frame(session_id, claims, walk)
        said = await self._questions.ask(session_id, lambda: self._uplink.publish_for_user(claims.user_id, frame))
        match said:
            case SignedIn(profile=Profile() as profile):
                return profile
            case SignedIn(refusal=str(code)):
                raise Refusal(Code(code))
        raise Refusal(Code.USER_NOT_FOUND)

    def _sign_in_frame(self, session_id: str, claims: Claims, walk: int | None = None) -> SignIn:
        return SignIn(Origin(self._gateway, session_id), claims.user_id, claims.role, claims.issued_at_ms, walk)

    def _welcome(self, session: Session) -> None:
        timer = self._strangers.pop(session.id, None)
        if timer is not None:
            timer.cancel()
        if session.refusal is not None:
            self._send_away(session.socket, None, session.refusal)
            return
        session.socket.emit(
            "auth_success",
            payloads.encode(
                payloads.AuthSuccess(
                    connection_id=session.id,
                    user_id=session.user_id,
                    user_name=session.name,
                    user_role=session.role,
                    server_time=now_ms(),
                    resume_ticket=self._authenticator.ticket(session.claims),
                )
            ),
        )
        self._watch_expiry(session)
        self._alarms.welcome(session)
        if session.state is State.JOINING:
            session.socket.set_barrier()
            self._catchup.begin(session)

    # --- the end of a token --------------------------------------------------------------------

    def _watch_expiry(self, session: Session) -> None:
        if session.expiry is not None:
            session.expiry.cancel()
        left_s = session.claims.expires_at_ms / _MS - time.time()
        session.expiry = self._wheel.after(max(0.0, left_s - self._token_warning_s), partial(self._warn, session))

    def _warn(self, session: Session) -> None:
        expires_at = session.claims.expires_at_ms
        session.socket.emit("token_expiring", payloads.encode(payloads.TokenExpiring(expires_at)))
        left_s = expires_at / _MS - time.time() + self._token_grace_s
        session.expiry = self._wheel.after(max(0.0, left_s), partial(self._expire, session))

    def _expire(self, session: Session) -> None:
        failed = payloads.auth_failed(Refusal(Code.TOKEN_EXPIRED))
        session.socket.emit("auth_failed", payloads.encode(failed))
        session.socket.close_for_good()

    def _time_out(self, socket: Socket) -> None:
        self._strangers.pop(socket.id, None)
        socket.emit("auth_timeout", payloads.encode(payloads.AuthTimeout("No sign-in in time. Connect again.")))
        socket.close_for_good()

    def _let_go(self, session: Session) -> None:
        if self._sessions.remove(session):
            self._heartbeat.unseat(session.user_id, comes_back=session.comes_back)
        self._alarms.forget(session)
        self._questions.forget(session.id)

    def _refuse(self, socket: Socket, ack: int | None, refusal: Refusal) -> None:
        self._metrics.refusals.labels(refusal.code.value).inc()
        if ack is not None:
            socket.answer(ack, payloads.encode(payloads.refused(refusal)))


def _say(socket: Socket, refusal: Refusal) -> None:
    """The event that goes with a refusal after which the socket lives on."""
    event = payloads.ErrorEvent(refusal.code.value, refusal.message, "authenticate")
    socket.emit("error", payloads.encode(event))
