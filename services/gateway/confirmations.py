"""What devices have acknowledged, gathered for a moment on its way to the routers.

A message to a group comes back as hundreds of acknowledgements: together they are one frame. None of them is in a
hurry, and one that is lost with this gateway costs nothing but the message once more.
"""

from collections.abc import Sequence
from typing import Final

from libs.clock import now_ms
from libs.wheel import Timeout, Wheel
from libs.wire.codes import Refusal
from libs.wire.frames import Confirm, Confirms, Origin
from services.gateway.metrics import GatewayMetrics
from services.gateway.uplink import Uplink

# So many wait for nothing more.
_MANY: Final = 500


class Confirmations:
    """Notes acknowledgements, and publishes them every `gather_s`."""

    def __init__(self, gateway: str, uplink: Uplink, metrics: GatewayMetrics, wheel: Wheel, *, gather_s: float) -> None:
        self._origin = Origin(gateway, "")
        self._uplink = uplink
        self._metrics = metrics
        self._wheel = wheel
        self._gather_s = gather_s
        # By conversation, seq and mark: the users.
        self._noted: dict[tuple[str, int, int], dict[str, None]] = {}
        self._count = 0
        self._timeout: Timeout | None = None

    def note(self, user_id: str, conversation_id: str, seqs: Sequence[int], mark: int = 0) -> None:
        """A device of this user has these; with a `mark`, the one that was only queued (`Emit`)."""
        for seq in seqs:
            self._noted.setdefault((conversation_id, seq, mark), {})[user_id] = None
        self._count += len(seqs)
        self._metrics.messages_acknowledged.inc(len(seqs))
        if self._count >= _MANY:
            self.flush()
        elif self._timeout is None:
            self._timeout = self._wheel.after(self._gather_s, self.flush)

    def left(self, user_id: str) -> None:
        """A device of this user is gone, and may come back at once: what it has confirmed does not wait."""
        if any(user_id in users for users in self._noted.values()):
            self.flush()

    def flush(self) -> None:
        """Publish what was noted. An uplink that is full loses nothing: it stays due."""
        noted, self._noted, self._count = self._noted, {}, 0
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        at_ms = now_ms()
        # What has a mark goes by itself: there is one mark a frame.
        alone: dict[tuple[str, str, int], list[int]] = {}
        for (conversation_id, seq, mark), users in noted.items():
            if len(users) == 1:
                alone.setdefault((conversation_id, next(iter(users)), mark), []).append(seq)
            else:
                everyone = Confirms(self._origin, conversation_id, seq, tuple(users), at_ms, mark)
                self._publish(conversation_id, everyone, len(users))
        for (conversation_id, user_id, mark), seqs in alone.items():
            one = Confirm(self._origin, user_id, conversation_id, tuple(seqs), at_ms=at_ms, mark=mark)
            self._publish(conversation_id, one, len(seqs))

    def _publish(self, conversation_id: str, frame: Confirm | Confirms, confirmed: int) -> None:
        try:
            self._uplink.publish_for_conversation(conversation_id, frame)
        except Refusal:
            self._metrics.confirms_dropped.inc()
        else:
            self._metrics.confirmed.inc(confirmed)
