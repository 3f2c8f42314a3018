"""Pushes to phones that are away: one for each device and conversation, when a message has been due for a while.

    saved ──▶ waiting ──push_after_s──▶ jobs ──▶ a sender ──▶ done

What waits is one word a message, whatever the size of its group. Who has it by then is asked when its time has come,
so nearly all that waits comes to nothing. All of it is in the broker, by partition: a router that takes over goes on.
A job is marked before it is handed on. One that was marked when its router died may have been sent: it is not sent
again, as nobody should be pushed twice for one message.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog
from msgspec import Struct

from libs import keys
from libs.broker import AWAY, Broker, Script, type_of_command
from libs.clock import now_ms
from libs.wire.frames import Broadcast
from services.router import push_jobs
from services.router.batch import Work
from services.router.conversations import Conversations
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.push_jobs import Fate, Job
from services.router.store import Message, Store, StoreAway

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
_DUE_AT_ONCE: Final = 200
# Longer than any batch waits to be read again after a router died.
_TAKEN_MS: Final = 20 * 60 * 1000
# Jobs written at once: the people of a large group are many.
_JOBS_AT_ONCE: Final = 500

_take: Final = Script("services.router", "take_pushes.lua")
_settle: Final = Script("services.router", "settle_pushes.lua")
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Job)


class Sender(Protocol):
    """Hands pushes on."""

    async def send(self, jobs: Sequence[Job]) -> list[list[Fate]]:
        """For each job, what became of it at each of its tokens (or its topic). Raises nothing of the network's."""
        ...


class LogSender:
    """Says what would be pushed, and to how many; what it says and to whom is no matter of a log."""

    async def send(self, jobs: Sequence[Job]) -> list[list[Fate]]:
        """See `Sender`."""
        log.info(
            "would push",
            pushes=len(jobs),
            devices=sum(len(job.tokens) for job in jobs),
            topics=sum(bool(job.topic) for job in jobs),
            urgent=sum(job.push.is_urgent for job in jobs),
        )
        return [[Fate.SENT] * max(len(job.tokens), 1) for job in jobs]


class _Queue(Struct):
    """The jobs of one partition, as long as it is ours."""

    partition: Partition
    jobs: dict[str, Job]


class Pushes:
    """Notes what is sent, and pushes what stays due."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        people: People,
        conversations: Conversations,
        sender: Sender,
        metrics: RouterMetrics,
        owned: Callable[[], Collection[Partition]],
        *,
        after_s: float,
        per_s: int,
        counted_members: int,
    ) -> None:
        self._broker = broker
        self._store = store
        self._people = people
        self._conversations = conversations
        self._sender = sender
        self._metrics = metrics
        self._owned = owned
        self._after_ms = round(after_s * 1000)
        self._per_s = per_s
        self._counted_members = counted_members
        self._queues: dict[int, _Queue] = {}

    def note(self, works: Iterable[Work]) -> list[type_of_command]:
        """What has the messages of these batches wait; noted twice, one waits once."""
        commands: list[type_of_command] = []
        for work in works:
            words: list[str | int] = []
            for verdict in work.verdicts:
                message = verdict.message
                if message is not None and (verdict.is_new or work.is_replay or verdict.is_queued):
                    words += (message.server_time_ms + self._after_ms, push_jobs.waiting(message))
            if words:
                commands.append(("ZADD", keys.pushes(work.partition.number), "NX", *words))
        return commands

    async def note_broadcasts(self, partition: Partition, broadcasts: Iterable[Broadcast]) -> None:
        """Warnings are pushed at once, to who follows the places they are for. Raises `AWAY`."""
        queue = await self._queue(partition)
        by_id = {one.broadcast_id: one for one in broadcasts}
        fresh = await self._untaken(partition, list(by_id))
        jobs: list[Job] = []
        for one in map(by_id.__getitem__, fresh):
            push = push_jobs.of_broadcast(one.broadcast_id, one.title, one.content)
            jobs += [Job(push, topic=push_jobs.topic(one.level, place)) for place in one.place_ids]
        if jobs:
            await self._enqueue(queue, fresh, jobs)

    async def run(self) -> None:
        """Push until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for partition in list(self._owned()):
                    await self.turn(partition)
            except (StoreAway, *AWAY) as error:
                # The policy for a broker or a store that is away: all is as it was, and is looked at again.
                log.warning("pushes wait", error=type(error).__name__)
            self._queues = {number: q for number, q in self._queues.items() if not q.partition.is_lost}
            self._metrics.pushes_waiting.set(sum(len(queue.jobs) for queue in self._queues.values()))

    async def turn(self, partition: Partition) -> None:
        """Make jobs of what is due in a partition; hand on those whose time has come. Raises `StoreAway`, `AWAY`."""
        queue = await self._queue(partition)
        due = await self._broker.command(
            "ZRANGE", keys.pushes(partition.number), "-inf", now_ms(), "BYSCORE", "LIMIT", 0, _DUE_AT_ONCE
        )
        if due:
            members = [member.decode() for member in due]
            await self._enqueue(queue, members, await self._jobs(partition, await self._untaken(partition, members)))
        if queue.jobs and not partition.is_lost:
            await self._send(queue)

    # --- from messages to jobs -----------------------------------------------------------------

    async def _untaken(self, partition: Partition, members: list[str]) -> list[str]:
        """Those that were not made jobs of before: a batch that is read again has them wait again."""
        if not members:
            return []
        scores = await self._broker.command("ZMSCORE", keys.pushes_taken(partition.number), *members)
        return [member for member, score in zip(members, scores, strict=True) if score is None]

    async def _jobs(self, partition: Partition, members: list[str]) -> list[Job]:
        by_conversation: dict[str, list[int]] = {}
        for member in members:
            conversation_id, seq = push_jobs.place_of(member)
            by_conversation.setdefault(conversation_id, []).append(seq)
        jobs: list[Job] = []
        for conversation_id, seqs in by_conversation.items():
            missed = await self._missed(partition, conversation_id, seqs)
            if missed:
                await self._people.load(missed, ())
            for user_id, messages in missed.items():
                user = self._people.user(user_id)
                if user is not None and user.push_tokens:
                    jobs.append(Job(push_jobs.of_messages(messages), user_id, tuple(sorted(user.push_tokens))))
        return jobs

    async def _missed(self, partition: Partition, conversation_id: str, seqs: list[int]) -> dict[str, list[Message]]:
        """Who has not confirmed which of these messages, in order."""
        book = partition.receipts
        at_hand = [book.message(conversation_id, seq) for seq in seqs]
        messages = [message for message in at_hand if message is not None]
        if len(messages) < len(seqs):
            messages = await self._store.at(conversation_id, seqs)
        members = await self._conversations.participants(conversation_id)
        if len(members) <= self._counted_members:  # of a large group those are known who confirmed lately: enough
            await self._conversations.load_receipts(partition, conversation_id, members)
        missed: dict[str, list[Message]] = {}
        for user_id in sorted(members):
            receipt = book.receipt(conversation_id, user_id)
            left = [m for m in messages if m.sender_id != user_id and not receipt.has(m.seq)]
            if left:
                missed[user_id] = left
        return missed

    async def _enqueue(self, queue: _Queue, members: list[str], jobs: list[Job]) -> None:
        """Write jobs; with the last of them, that what they were made of is taken. Until then they may be made anew."""
        found = {push_jobs.job_id(job): job for job in jobs}
        fields = list(found)
        while len(fields) > _JOBS_AT_ONCE:
            part, fields = fields[:_JOBS_AT_ONCE], fields[_JOBS_AT_ONCE:]
            await self._write(queue.partition, {field: found[field] for field in part})
        number, at_ms = queue.partition.number, now_ms()
        words: list[Any] = [queue.partition.lease, at_ms, at_ms - _TAKEN_MS, len(members), *members]
        for field in fields:
            words += (field, _encoder.encode(found[field]))
        where = [keys.lease(number), keys.pushes(number), keys.pushes_taken(number), keys.push_jobs(number)]
        if await self._broker.script(_take.call(where, *words)) is not None:
            queue.jobs |= found

    # --- from jobs to phones -------------------------------------------------------------------

    async def _queue(self, partition: Partition) -> _Queue:
        """The jobs of a partition; of one that is new to us, what its owner before left."""
        queue = self._queues.get(partition.number)
        if queue is not None and queue.partition is partition:
            return queue
        left = await self._broker.command("HGETALL", keys.push_jobs(partition.number))
        jobs = {field.decode(): _decoder.decode(packed) for field, packed in left.items()}
        unknown = [field for field, job in jobs.items() if job.is_sending]
        if unknown:
            self._metrics.pushes.labels("unknown").inc(len(unknown))
            await self._write(partition, dict.fromkeys(unknown))
        queue = _Queue(partition, {field: job for field, job in jobs.items() if not job.is_sending})
        self._queues[partition.number] = queue
        return queue

    async def _send(self, queue: _Queue) -> None:
        at_ms = now_ms()
        ready = [(field, job) for field, job in queue.jobs.items() if job.not_before_ms <= at_ms][: self._per_s]
        if not ready:
            return
        marked = {field: msgspec.structs.replace(job, is_sending=True) for field, job in ready}
        if not await self._write(queue.partition, marked):
            return
        jobs = [job for _, job in ready]
        fates = await self._sender.send(jobs)
        left: dict[str, Job | None] = {}
        for (field, job), of_job in zip(ready, fates, strict=True):
            left[field] = push_jobs.settled(job, of_job, now_ms())
            self._count(of_job, is_over=left[field] is None)
        for field, job_left in left.items():
            if job_left is None:
                queue.jobs.pop(field, None)
            else:
                queue.jobs[field] = job_left
        await self._write(queue.partition, left)
        await self._forget_dead(jobs, fates)

    def _count(self, fates: Sequence[Fate], *, is_over: bool) -> None:
        for fate in fates:
            result = "given_up" if fate is Fate.RETRY and is_over else fate.value
            self._metrics.pushes.labels(result).inc()

    async def _write(self, partition: Partition, jobs: Mapping[str, Job | None]) -> bool:
        words: list[Any] = [partition.lease]
        for field, job in jobs.items():
            words += (field, b"" if job is None else _encoder.encode(job))
        where = [keys.lease(partition.number), keys.push_jobs(partition.number)]
        return await self._broker.script(_settle.call(where, *words)) is not None

    async def _forget_dead(self, jobs: Sequence[Job], fates: Sequence[Sequence[Fate]]) -> None:
        dead: dict[str, set[str]] = {}
        for job, of_job in zip(jobs, fates, strict=True):
            for token, fate in zip(job.tokens, of_job, strict=False):
                if fate is Fate.DEAD:
                    dead.setdefault(job.user_id, set()).add(token)
        for user_id, tokens in dead.items():
            await self._store.forget_push_tokens(user_id, tokens)
            self._people.forget_user(user_id)
