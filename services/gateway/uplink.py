"""Client frames → inbound streams, or a refusal that says why not.

Bounded: while the broker is away a number of frames wait, unanswered; more are refused as `unavailable`.
When routers are behind by more than a setting, what would make it worse is refused as `overloaded`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, get_args

from msgspec import Struct

from libs.identity import Envelopes
from libs.streams.group_commit import Full
from libs.streams.producer import Producer
from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Canary, Inbound, Send
from services.gateway.metrics import GatewayMetrics

_RETRY_AFTER_MS: Final = 2000
# A second of real lag: owners note how far they have read once a second, so up to one more is seen where there is none.
_PROMPT_LAG_S: Final = 2.0


class Lag(Struct, frozen=True):
    """How far behind a partition is: entries nobody has acknowledged, and the age of the oldest one unread."""

    entries: int = 0
    age_s: float = 0.0


class Uplink:
    """Publishes frames to the partitions they belong to."""

    def __init__(
        self,
        producer: Producer,
        *,
        partitions: int,
        overload_lag_s: float,
        overload_entries: int,
        metrics: GatewayMetrics,
        envelopes: Envelopes | None = None,
    ) -> None:
        self._producer = producer
        self._partitions = partitions
        self._overload_lag_s = overload_lag_s
        self._overload_entries = overload_entries
        self._envelopes = envelopes
        self._counts = {kind: metrics.published_frames.labels(kind.__name__.lower()) for kind in get_args(Inbound)}
        self._lag_s = metrics.partition_lag_s
        self._lags: Mapping[int, Lag] = {}
        # Of the frames that the producer took, the last one that is a canary.
        self._last_canary = 0

    def __len__(self) -> int:
        return len(self._producer)

    @property
    def tries(self) -> int:
        """How often it tried to write."""
        return self._producer.tries

    def note_lags(self, lags: Mapping[int, Lag]) -> None:
        """How far behind each partition is now."""
        self._lags = lags
        for partition, lag in lags.items():
            self._lag_s.labels(partition).set(lag.age_s)

    def publish_for_conversation(self, conversation_id: str, frame: Inbound) -> None:
        """To the partition that orders a conversation. Raises `Refusal`."""
        self._publish(names.partition_of(conversation_id, self._partitions), frame)

    def publish_if_prompt(self, conversation_id: str, frame: Inbound) -> None:
        """To the partition of a conversation, for what is worth nothing late. Raises `Refusal` if it would be."""
        partition = names.partition_of(conversation_id, self._partitions)
        lag = self._lags.get(partition)
        if self._producer.is_half_full or (lag is not None and lag.age_s > _PROMPT_LAG_S):
            raise Refusal(Code.OVERLOADED, retry_after_ms=_RETRY_AFTER_MS)
        self._publish(partition, frame)

    def publish_for_user(self, user_id: str, frame: Inbound) -> None:
        """To the partition that answers for a user. Raises `Refusal`."""
        self._publish(names.partition_of_user(user_id, self._partitions), frame)

    def publish_for_message(self, message_id: str, frame: Inbound) -> None:
        """To the partition of a message's conversation. Raises `Refusal`, also for an id that is not ours."""
        partition = names.partition_of_message(message_id, self._partitions)
        if partition is None:
            raise Refusal(Code.ACCESS_DENIED)
        self._publish(partition, frame)

    def publish_for_partition(self, partition: int, frame: Inbound) -> None:
        """To one of the partitions of conversations. Raises `Refusal`."""
        self._publish(partition, frame)

    def publish_alarm(self, frame: Inbound) -> None:
        """To the partition of broadcasts: ahead of all that waits, however far behind routers are. Raises `Refusal`."""
        try:
            self._producer.publish_first_nowait(names.alarm_partition(self._partitions), frame)
        except Full as error:
            raise Refusal(Code.UNAVAILABLE, retry_after_ms=_RETRY_AFTER_MS) from error
        self._counts[type(frame)].inc()

    def publish_canaries(self, canary: Canary) -> None:
        """To every partition, however far behind routers are. Nothing, while the last round waits for the broker."""
        if self._last_canary > self._producer.written:
            return
        with suppress(Full):
            for partition in range(self._partitions):
                self._producer.publish_nowait(partition, canary)
                self._counts[Canary].inc()
            self._producer.publish_first_nowait(names.alarm_partition(self._partitions), canary)
            self._counts[Canary].inc()
        self._last_canary = self._producer.taken

    async def wait_written(self) -> None:
        """Wait until everything published so far is with the broker."""
        await self._producer.wait_written()

    async def run(self) -> None:
        """Write until cancelled."""
        await self._producer.run()

    def _publish(self, partition: int, frame: Inbound) -> None:
        lag = self._lags.get(partition)
        if lag is not None and (lag.age_s > self._overload_lag_s or lag.entries > self._overload_entries):
            raise Refusal(Code.OVERLOADED, retry_after_ms=_RETRY_AFTER_MS)
        kind = type(frame)
        if self._envelopes is not None:
            frame = self._envelopes.closed(frame)
        elif isinstance(frame, Send) and frame.draft.is_anonymous:
            raise Refusal(Code.ANONYMOUS_UNAVAILABLE)
        try:
            self._producer.publish_nowait(partition, frame)
        except Full as error:
            raise Refusal(Code.UNAVAILABLE, retry_after_ms=_RETRY_AFTER_MS) from error
        self._counts[kind].inc()
