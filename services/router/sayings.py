"""What is said of a batch: answers, messages, statuses, and to whom. `routing.plan` finds out where they are.

Most of it is plain; the rest is what a replay, a repeat or an outage of the store leaves to be said later, so that
every sender hears `sent` once it is so, and no status goes back.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence

import msgspec

from libs.clock import now_ms
from libs.streams import consumer
from libs.wire import names, payloads
from libs.wire.frames import (
    Answer,
    Canary,
    Confirm,
    Confirms,
    Due,
    History,
    Inbound,
    Join,
    Origin,
    Search,
    Send,
    SignIn,
    Sums,
    Trace,
    Typing,
)
from services.router import answers, bodies, records
from services.router.anonymity import Author, author_of
from services.router.aside import Aside
from services.router.batch import Verdict, Work
from services.router.conversations import Conversations
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.requests import AboutConversation, Request, Requests
from services.router.routing import Saying, ToUsers
from services.router.store import Message, StoreAway
from services.router.traces import Traces


class Sayings:
    """Finds out what is to be said."""

    def __init__(
        self,
        conversations: Conversations,
        requests: Requests,
        aside: Aside,
        metrics: RouterMetrics,
        *,
        partitions: int,
        traces: Traces | None = None,
    ) -> None:
        self._conversations = conversations
        self._requests = requests
        self._aside = aside
        self._metrics = metrics
        self._counted = {
            outcome: metrics.messages.labels(outcome) for outcome in ("sent", "queued", "repeat", "refused")
        }
        self._partitions = partitions
        self._traces = traces

    async def prepare(self, works: Sequence[Work]) -> None:
        """Have at hand what the confirmations of a batch will ask for."""
        asked: list[tuple[Partition, str, Collection[str]]] = []
        for work in works:
            for frame in work.frames:
                match frame:
                    case Confirms():
                        asked.append((work.partition, frame.conversation_id, frame.user_ids))
                    case Confirm(message_id=None, bare_id=None) if names.is_conversation(frame.conversation_id):
                        asked.append((work.partition, frame.conversation_id, (frame.user_id,)))
        if asked:
            await self._conversations.prepare(asked)

    async def of_batches(
        self, works: Sequence[Work], forwarded: list[tuple[int, Inbound]], *, is_saved: bool
    ) -> list[Saying]:
        """Everything about the frames of several partitions. What is for another partition is added to `forwarded`."""
        saying = (self.of_batch(work, forwarded, is_saved=is_saved) for work in works)
        if any(isinstance(frame, SignIn | Due) for work in works for frame in work.frames):
            # Side by side, so that all of them ask the store together.
            said = await asyncio.gather(*saying)
        else:
            said = [await one for one in saying]
        return [one for of_partition in said for one in of_partition]

    async def of_batch(self, work: Work, forwarded: list[tuple[int, Inbound]], *, is_saved: bool) -> list[Saying]:
        """Everything about one partition's frames. What is for another partition is added to `forwarded`."""
        sayings = await self._of_verdicts(work, forwarded, is_saved=is_saved)
        sayings += await self._of_requests(work, forwarded)
        return sayings + await self._of_untold(work)

    async def of_unparked(self, work: Work) -> list[Saying]:
        """The store has what was said to be queued: `sent` to the senders, and what could not be said before."""
        sayings: list[Saying] = []
        for verdict in work.verdicts:
            send, message, was_told = verdict.send, verdict.message, _may_be_told(work, verdict)
            if message is None or not verdict.is_queued:
                continue
            author = self._author(send, message)
            if was_told:
                work.partition.untold.append(message)
            else:
                sayings.append(_status(work.partition.number, message, author, "sent"))
            sayings += await self._missed(work.partition, message, author, send.trace, is_told=was_told)
        return sayings + await self._of_untold(work)

    async def _of_verdicts(self, work: Work, forwarded: list[tuple[int, Inbound]], *, is_saved: bool) -> list[Saying]:
        sayings: list[Saying] = []
        outcomes: dict[str, int] = {}
        number = work.partition.number
        for verdict in _by_place(work.verdicts):
            send = verdict.send
            if verdict.message is not None:
                is_unsaved = verdict.message.key in work.partition.unsaved and not is_saved
                status = "queued" if is_unsaved else "sent"
                outcome = status if verdict.is_new else "repeat"
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                author = self._author(send, verdict.message)
                if verdict.is_new:
                    sayings += _new(
                        number, send.origin, verdict.message, author, status, is_told=_may_be_told(work, verdict)
                    )
                else:
                    told = await self._how_far(work.partition, verdict.message, author, status)
                    sayings.append(_again(number, send.origin, verdict.message, author, status, told))
                if _may_be_told(work, verdict) and status != "queued":
                    work.partition.untold.append(verdict.message)
                if not verdict.is_recent:
                    sayings += await self._message(work, verdict, verdict.message, author)
            elif verdict.forwarded is not None:
                conversation_id = verdict.forwarded.draft.conversation_id
                forwarded.append((names.partition_of(conversation_id, self._partitions), verdict.forwarded))
            elif verdict.refusal is not None:
                outcomes["refused"] = outcomes.get("refused", 0) + 1
                self._metrics.refusals.labels(verdict.refusal.code.value).inc()
                error = bodies.message_error(verdict.refusal, send.draft.client_message_id, send.draft.client_id)
                sayings.append(answers.refused(number, send.origin, verdict.refusal, ("message_error", error)))
        for outcome, count in outcomes.items():
            self._counted[outcome].inc(count)
        return sayings

    async def _of_untold(self, work: Work) -> list[Saying]:
        """Once a replay is through, and its receipts with it: how far each message it found in the store has come."""
        partition = work.partition
        if not partition.untold or not consumer.is_up_to(partition.answered_up_to, work.last_id):
            return []
        untold, partition.untold = partition.untold, []
        told = [(message, author) for message in untold if (author := self._conversations.author(message)) is not None]
        return [
            _status(partition.number, message, author, await self._how_far(partition, message, author, "sent"))
            for message, author in told
        ]

    def _author(self, send: Send, message: Message) -> Author:
        """Whom to tell of a message that this sends (again)."""
        return self._conversations.author(message) or author_of(send)

    async def _how_far(self, partition: Partition, message: Message, author: Author, status: str) -> str:
        """How far a message that was sent before has come; `status` where that cannot be known."""
        senders = (message.sender_id, author.user_id)
        try:
            others = await self._conversations.counted(partition, message.conversation_id, *senders)
        except StoreAway:
            return status
        told = self._conversations.status(partition, message, others)
        return told if told in ("delivered", "read") else status  # a batch that is being completed knows better

    async def _message(self, work: Work, verdict: Verdict, message: Message, author: Author) -> list[Saying]:
        partition = work.partition
        try:
            recipients = await self._conversations.participants(message.conversation_id) - {message.sender_id}
            # Without its hidden author, the list of a group's members would name them.
            is_own_due = author.user_id in recipients
            if not verdict.is_new:
                # Sent again, or replayed after a crash: only to those who have not confirmed it.
                await self._conversations.load_receipts(partition, message.conversation_id, recipients)
        except StoreAway:
            return []  # a repeat whose readers cannot be asked for; it stays due to them
        if not verdict.is_new:
            recipients = _missing(partition, message, recipients)
        body = bodies.new_message(message)
        sayings = [_to(partition, message, recipients, body, verdict.send.trace)]
        if (verdict.is_new or work.is_replay) and not is_own_due:
            skip = verdict.send.origin.session
            sayings.append(answers.to_author(partition.number, author, "new_message", body, skip_session=skip))
        return sayings

    async def _missed(
        self, partition: Partition, message: Message, author: Author, trace: str, *, is_told: bool
    ) -> list[Saying]:
        """What could not be said of a message before it was saved: to who came meanwhile, and how far it has come."""
        try:
            recipients = await self._conversations.participants(message.conversation_id) - {message.sender_id}
            await self._conversations.load_receipts(partition, message.conversation_id, recipients)
            senders = (message.sender_id, author.user_id)
            others = await self._conversations.counted(partition, message.conversation_id, *senders)
        except StoreAway:
            return []
        missing = _missing(partition, message, recipients)
        sayings = [_to(partition, message, missing, bodies.new_message(message), trace)]
        status, counts = self._conversations.progress(partition, message, others)
        if status != "sent" and not is_told:
            sayings.append(_status(partition.number, message, author, status, counts))
        return sayings

    async def _of_requests(self, work: Work, forwarded: list[tuple[int, Inbound]]) -> list[Saying]:
        """Everything in the batch that is not a message.

        Confirmations, of which there are most, have all at hand and are answered as they are met; the others may wait
        for the store, together.
        """
        results: list[Sequence[Saying] | AboutConversation] = []
        waiting: list[tuple[int, Request]] = []
        for given, entry in zip(work.frames, work.entries, strict=True):
            frame = _timely(work.partition, given, entry)
            if isinstance(frame, Confirm | Confirms):
                if frame.mark and not await self._requests.confirmations.is_meant(work.partition, frame):
                    continue
                said = self._requests.confirmations.answer_nowait(work.partition, frame)
                results.append(said if said is not None else await self._requests.answer(work.partition, frame))
            elif isinstance(frame, Canary | Search | Trace | Sums):
                results.append(self._aside_of(work, frame))
            elif not isinstance(frame, Send):
                waiting.append((len(results), frame))
                results.append(())
        if waiting:
            answering = (self._requests.answer(work.partition, frame, is_replay=work.is_replay) for _, frame in waiting)
            for (place, _), result in zip(waiting, await asyncio.gather(*answering), strict=True):
                results[place] = result
        sayings: list[Saying] = []
        for result in results:
            match result:
                case Confirm() | Confirms() | History() | Join() | Typing():
                    forwarded.append((names.partition_of(result.conversation_id, self._partitions), result))
                case _:
                    sayings += result
        return sayings

    def _aside_of(self, work: Work, frame: Canary | Search | Trace | Sums) -> Sequence[Saying]:
        """What is said at once to frames that take no part in the batch: most are answered beside it."""
        match frame:
            case Canary():
                work.partition.heard_at = time.monotonic()
                # One that is read again was of interest once.
                return () if work.is_replay else (answers.heard(work.partition.number, frame),)
            case Search():
                return self._aside.ask_nowait(work.partition, frame)
            case Trace() | Sums():
                return self._traces.ask(work.partition, frame) if self._traces is not None else ()


def _by_place(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """As they are to be said. What was sent again may stand before what was sent before it, and be new to many: an
    owner saved it and died, or lost its partition, before it said so.
    """
    placed = [(verdict.message.seq, n) for n, verdict in enumerate(verdicts) if verdict.message is not None]
    in_turn = iter(sorted(placed))
    return [verdict if verdict.message is None else verdicts[next(in_turn)[1]] for verdict in verdicts]


def _may_be_told(work: Work, verdict: Verdict) -> bool:
    """An earlier owner may have told more of it; or it answered `queued`, and a second answer is not read.

    So how far it has come is said to all, once the replay, and the receipts in it, are through.
    """
    return work.is_replay and verdict.was_placed


def _timely(partition: Partition, frame: Inbound, entry: str) -> Inbound:
    """A confirmation without what it cannot mean: messages that came after it."""
    is_behind = partition.receipts.is_behind
    match frame:
        case Confirms(conversation_id=where, seq=seq) if is_behind(where, seq, entry):
            return msgspec.structs.replace(frame, user_ids=())
        case Confirm(conversation_id=where, seqs=seqs) if any(is_behind(where, seq, entry) for seq in seqs):
            return msgspec.structs.replace(frame, seqs=tuple(seq for seq in seqs if not is_behind(where, seq, entry)))
    return frame


def _new(number: int, origin: Origin, message: Message, author: Author, status: str, *, is_told: bool) -> list[Saying]:
    """The answer to the socket that sent it; and to the sender's other devices the status, if they have no other."""
    body = bodies.delivery_status(message, author, status, now_ms())
    sayings: list[Saying] = []
    if origin.ack is not None:
        answer = Answer(origin.session, origin.ack, bodies.accepted(message, author, status))
        sayings.append(answers.to_origin(number, origin, answer))
    if not is_told:
        skip = origin.session if origin.ack is not None else None
        sayings.append(answers.to_author(number, author, "message_delivery_status", body, skip_session=skip))
    return sayings


def _status(
    number: int, message: Message, author: Author, status: str, recipients: payloads.Recipients | None = None
) -> Saying:
    """How far a message has come, to all of its sender's devices."""
    body = bodies.delivery_status(message, author, status, now_ms(), recipients)
    return answers.to_author(number, author, "message_delivery_status", body)


def _missing(partition: Partition, message: Message, recipients: Iterable[str]) -> frozenset[str]:
    """Those who have not confirmed a message; their receipts are at hand."""
    book = partition.receipts
    return frozenset(user for user in recipients if not book.receipt(message.conversation_id, user).has(message.seq))


def _to(partition: Partition, message: Message, recipients: Iterable[str], body: bytes, trace: str) -> Saying:
    """A message to recipients, due until they confirm it."""
    users, where, seq = tuple(sorted(recipients)), message.conversation_id, message.seq
    mark = records.mark(message) if message.key in partition.unsaved else 0
    return ToUsers(partition.number, users, "new_message", body, where, seq, mark=mark, trace=trace)


def _again(number: int, origin: Origin, message: Message, author: Author, status: str, how_far: str) -> Saying:
    """A message sent again is answered as it was; the other devices know, and perhaps more than this."""
    if origin.ack is not None:
        answer = Answer(origin.session, origin.ack, bodies.accepted(message, author, status))
    else:
        told = ("message_delivery_status", bodies.delivery_status(message, author, how_far, now_ms()))
        answer = Answer(origin.session, emits=(told,))
    return answers.to_origin(number, origin, answer)
