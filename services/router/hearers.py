"""Who has heard of what waits for the store: nobody is shown a message before an earlier one of its conversation.

What is queued is due to nobody yet: no page brings it. Who had no seat when it was said (they were away, or the broker
had lost their seat) would have it when the store is back, behind all that was said to them meanwhile. So they are said
what they have not heard before they are said anything later.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from services.router import bodies, records
from services.router.receipts import ReceiptBook
from services.router.routing import ToUsers
from services.router.store import Message

Seats = tuple[str, ...]


class _Waiting:
    """One conversation: what waits, in order; where each user was, and how many of it they were said there."""

    __slots__ = ("heard", "messages", "numbers")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        # By seq, its number in `messages`.
        self.numbers: dict[int, int] = {}
        self.heard: dict[str, tuple[Seats, int]] = {}


class Hearers:
    """Of one partition."""

    def __init__(self) -> None:
        self._conversations: dict[str, _Waiting] = {}

    def __bool__(self) -> bool:
        return bool(self._conversations)

    def wait(self, messages: Iterable[Message]) -> None:
        """These are not saved: the store is away."""
        for message in messages:
            waiting = self._conversations.setdefault(message.conversation_id, _Waiting())
            waiting.numbers[message.seq] = len(waiting.messages)
            waiting.messages.append(message)

    def clear(self) -> None:
        """The store has them; who has not confirmed them is said all of it."""
        self._conversations.clear()

    def before(self, saying: ToUsers, seats: Mapping[str, Seats], book: ReceiptBook) -> Sequence[ToUsers]:
        """What is to be said before this, to whom, as it is about to be said to all of its users who have seats."""
        waiting = self._conversations.get(saying.conversation_id)
        end = waiting.numbers.get(saying.seq) if waiting is not None else None
        if waiting is None or end is None:
            return ()
        unheard: defaultdict[int, list[str]] = defaultdict(list)
        for user in saying.users:
            now = seats.get(user)
            if not now:
                continue
            then, heard = waiting.heard.get(user, ((), 0))
            if not set(now).issubset(then):
                heard = 0  # on another gateway than before, perhaps with nothing of it
            for number in range(heard, end):
                message = waiting.messages[number]
                if user != message.sender_id and not book.receipt(message.conversation_id, user).has(message.seq):
                    unheard[number].append(user)
            waiting.heard[user] = now, max(heard, end + 1)
        return [_said(saying, waiting.messages[number], tuple(users)) for number, users in sorted(unheard.items())]


def _said(saying: ToUsers, message: Message, users: tuple[str, ...]) -> ToUsers:
    body, mark = bodies.new_message(message), records.mark(message)
    return ToUsers(saying.partition, users, saying.event, body, message.conversation_id, message.seq, mark=mark)
