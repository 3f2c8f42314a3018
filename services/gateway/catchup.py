"""What is due goes first: pages of it after sign-in (or `sync`), then the live messages held meanwhile.

So a device sees each conversation in order. A client that does not acknowledge its page, or a router that
does not answer, does not hold live messages up for ever: after a time they go out, the walk goes on when
it can, and what was not confirmed stays due.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from libs.wheel import Wheel
from libs.wire import frames
from libs.wire.codes import Refusal
from services.gateway import packets
from services.gateway.sessions import HELD_MAX, Acks, Due, Expected, Session, Sessions, State, Walk
from services.gateway.uplink import Uplink

# The store is away, or no router answers: ask again after this.
_ASK_AGAIN_S: Final = 5.0
# After a revival all sessions walk again; spread, so that routers are not asked ten thousand times at once.
_RESTARTS_A_SECOND: Final = 500


class CatchUp:
    """Walks sessions through what is due to them."""

    def __init__(
        self, gateway: str, sessions: Sessions, uplink: Uplink, acks: Acks, wheel: Wheel, *, page_timeout_s: float
    ) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._uplink = uplink
        self._acks = acks
        self._wheel = wheel
        self._page_timeout_s = page_timeout_s
        self._walks = 0

    def prepare(self, session: Session) -> int:
        """The number of the walk that `begin` will go; its first page may come before."""
        if session.walk is None:
            session.walk = Walk()
        self._walks += 1
        session.walk.number = self._walks
        return self._walks

    def begin(self, session: Session) -> None:
        """The client is welcome: walk from the beginning, with the page that came with the welcome."""
        walk = session.walk
        session.state = State.CATCHING_UP
        if walk is None or walk.first is None:
            self._walk(session)
            return
        page, walk.first = walk.first, None
        self.page(session, page)

    def start(self, session: Session) -> None:
        """Walk from the beginning; live messages are held from now on."""
        self._walk(session)

    def sync(self, session: Session, cursors: dict[str, int], budget_bytes: int | None) -> None:
        """A device says what it has: walk through what it has not."""
        self._walk(session, cursors, budget_bytes)

    def hold_all(self) -> None:
        """Before seats are taken again: what is said from then on waits for the walk that `restart_all` begins."""
        for session in self._sessions:
            if session.state is not State.JOINING:
                session.walk = session.walk or Walk()
                session.walk.is_holding = True

    def restart_all(self) -> None:
        """Frames may have been lost on their way here: everyone walks again, a few at a time."""
        for number, session in enumerate(self._sessions):
            self._wheel.after(number / _RESTARTS_A_SECOND, partial(self._restart, session))

    def hold(self, session: Session, due: Due) -> bool:
        """Keep a live message until the walk is over; False if it need not wait."""
        walk = session.walk
        if walk is None or not walk.is_holding:
            return False
        place = _place(due)
        if place in walk.held or (len(walk.held) < HELD_MAX and not walk.again):
            # A router that starts over says it again; or another, whose place it is since a broker was wiped.
            walk.held[place] = due
        else:
            # What was held is due as well; a second walk brings it, in order.
            walk.held.clear()
            walk.again = True
        return True

    def again(self, session: Session) -> None:
        """More is due than was asked for: walk once more, after the walk that is under way."""
        if session.walk is None:
            self._walk(session)
        else:
            session.walk.again = True

    def page(self, session: Session, page: frames.DuePage) -> None:
        """A page from the router."""
        walk = session.walk
        if walk is None or page.walk != walk.number:
            return
        if session.state is State.JOINING:
            walk.first = page
            return
        if page.unavailable:
            self._ask_later(session)
            return
        walk.position = page.position
        if page.alarms:
            self._sound(session, walk, page)
            return
        if page.confirms or walk.cursors is not None:
            walk.seen.update((conversation_id, seq) for conversation_id, seqs in page.confirms for seq in seqs)
            ack = self._acks.next()
            session.expect(ack, Expected(page.confirms, is_page=True))
            session.socket.say(packets.event("offline_messages", page.body, ack))
        if page.position is None:
            self._finish(session, walk)
        else:
            self._set_timer(session, self._page_timeout_s, self._stop_holding)

    def page_confirmed(self, session: Session) -> None:
        """The client has a page: the next one, if there is one."""
        if session.walk is not None:
            session.walk.moved_at = time.monotonic()
        if session.walk is not None and session.walk.position is not None:
            self._ask(session)

    def alarm_confirmed(self, session: Session, number: int) -> None:
        """The client has a broadcast that a page of the walk `number` brought."""
        walk = session.walk
        if walk is not None and walk.number == number and walk.alarms:
            walk.alarms -= 1
            if not walk.alarms:
                self._ask(session)

    def _sound(self, session: Session, walk: Walk, page: frames.DuePage) -> None:
        for broadcast_id, body in page.alarms:
            walk.alarms += session.emit_alarm(broadcast_id, self._acks.alarm(broadcast_id, body, walk.number))
        if walk.alarms:
            self._set_timer(session, self._page_timeout_s, self._go_on)
        else:
            self._ask(session)

    def _go_on(self, session: Session) -> None:
        """There are apps that confirm no broadcast: they get their messages all the same."""
        if session.walk is not None:
            session.walk.alarms = 0
        self._stop_holding(session)
        self._ask(session)

    def _walk(self, session: Session, cursors: dict[str, int] | None = None, budget_bytes: int | None = None) -> None:
        self._walks += 1
        walk = Walk(self._walks, cursors, budget_bytes)
        if session.walk is not None:
            walk.held = session.walk.held
            walk.is_holding = session.walk.is_holding
            walk.moved_at = session.walk.moved_at
        session.walk = walk
        session.state = State.CATCHING_UP
        self._ask(session)

    def _ask(self, session: Session) -> None:
        walk = session.walk
        if walk is None:
            return
        origin = frames.Origin(self._gateway, session.id)
        frame = frames.Due(origin, session.user_id, walk.position, walk.cursors, walk.budget_bytes, walk.number)
        try:
            self._uplink.publish_for_user(session.user_id, frame)
        except Refusal:
            if walk.was_refused:
                self._ask_later(session)
            else:
                # Routers are behind, and may not be for long: what is held would go out before what is due.
                walk.was_refused = True
                self._set_timer(session, _ASK_AGAIN_S, self._ask)
        else:
            walk.was_refused = False
            self._set_timer(session, self._page_timeout_s, self._ask_later)

    def _ask_later(self, session: Session) -> None:
        self._stop_holding(session)
        self._set_timer(session, _ASK_AGAIN_S, self._ask)

    def _finish(self, session: Session, walk: Walk) -> None:
        if walk.again:
            walk.moved_at = time.monotonic()
            self._walk(session)
            return
        self._stop_holding(session)
        session.walk = None

    def _stop_holding(self, session: Session) -> None:
        """Let live messages go out; those that a page has brought already do not go twice."""
        session.state = State.LIVE
        if session.page_timer is not None:
            session.page_timer.cancel()
            session.page_timer = None
        walk = session.walk
        if walk is None:
            return
        walk.is_holding = False
        # By seq: a router that starts over may have said a later one first.
        for place, due in sorted(walk.held.items()):
            if place not in walk.seen:
                session.emit_due(due)
        walk.held.clear()

    def _restart(self, session: Session) -> None:
        if not session.is_gone and session.state is not State.JOINING:
            self.start(session)

    def _set_timer(self, session: Session, after_s: float, then: Callable[[Session], None]) -> None:
        if session.page_timer is not None:
            session.page_timer.cancel()
        if not session.is_gone:
            session.page_timer = self._wheel.after(after_s, partial(then, session))


def _place(due: Due) -> tuple[str, int]:
    ((conversation_id, (seq,)),) = due.expected.confirms
    return conversation_id, seq
