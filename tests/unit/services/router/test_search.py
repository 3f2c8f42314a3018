"""Searching as a router answers it: where the user may look, and how much is sent."""

import json
from typing import Any

import pytest

from libs.wire.codes import Code, Refusal
from libs.wire.frames import Answer, Origin, Search
from services.router import search
from services.router.conversations import Conversations
from services.router.people import People
from services.router.routing import ToSession
from services.router.store import StoreAway
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, FakeStore, message

_ORIGIN = Origin("g1", "socket", 4)


async def ask(store: FakeStore, place: str | None = None, bare_id: str | None = None, user_id: str = "rama") -> Answer:
    conversations = Conversations(store, People(store, 5.0), 100)
    (said,) = await search.answer(store, conversations, 3, Search(_ORIGIN, user_id, "భూమి survey", 20, place, bare_id))
    assert isinstance(said, ToSession)
    assert isinstance(said.frame, Answer)
    return said.frame


async def test_what_was_found_is_the_answer_and_an_event(store: FakeStore) -> None:
    """Messages as `new_message` has them, the query as it was typed."""
    store.found = [message(2), message(1, FIELD, "lata")]
    said = await ask(store)
    answer: dict[str, Any] = json.loads(said.body)
    assert answer.pop("ok") is True
    assert [(name, json.loads(body)) for name, body in said.emits] == [("search_results", answer)]
    assert (answer["query"], answer["conversationId"]) == ("భూమి survey", None)
    assert [one["conversationId"] for one in answer["results"]] == [RAMA_SITA, FIELD]
    assert answer["results"][1]["senderName"] == "Lata"
    assert store.searched == [("rama", "భూమి survey", 20, None)]


@pytest.mark.parametrize(
    ("place", "bare_id", "means"),
    [(FIELD, None, FIELD), ("direct:field:rama", "field", FIELD), (RAMA_SITA, "sita", RAMA_SITA)],
)
async def test_one_conversation_is_searched(store: FakeStore, place: str, bare_id: str | None, means: str) -> None:
    """A bare id is a user's, or else a group's."""
    said = await ask(store, place, bare_id)
    assert json.loads(said.body)["conversationId"] == means
    assert store.searched == [("rama", "భూమి survey", 20, means)]


@pytest.mark.parametrize("place", [FIELD, RAMA_SITA, "group:nothing"])
async def test_outsiders_are_refused(store: FakeStore, place: str) -> None:
    """Whether there is such a conversation or not."""
    with pytest.raises(Refusal) as refused:
        await ask(store, place, user_id="ravi")
    assert refused.value.code is Code.ACCESS_DENIED
    assert store.searched == []


async def test_no_more_is_sent_than_a_socket_takes(store: FakeStore) -> None:
    """The newest of it; one message is always sent."""
    store.found = [message(seq, content="భ" * 5000) for seq in range(100, 0, -1)]
    body = (await ask(store)).body
    assert 100_000 < len(body) < 140_000
    assert [one["seq"] for one in json.loads(body)["results"]] == list(range(100, 92, -1))


async def test_a_store_that_is_away_is_told(store: FakeStore) -> None:
    """`Requests` makes it `unavailable`."""
    store.away = {"search"}
    with pytest.raises(StoreAway):
        await ask(store)
