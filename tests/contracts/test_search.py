"""What every store promises of search: whole words and their beginnings, in any script, where the user is now."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libs.lifecycle import Unstartable
from libs.storage.sqlite import Schema, open_lane
from libs.wire import names
from services.router.sqlite import open_store, schema, words
from services.router.sqlite.words import expression
from services.router.store import Group, Message, Saved, Store
from tests.contracts.conftest import Record
from tests.contracts.test_store import FIELD, RAMA_SITA, message, void


@pytest.fixture
async def store(record: Record) -> AsyncIterator[Store]:
    """One store on the record."""
    async with record.open() as opened:
        yield opened


async def found(store: Store, query: str, user_id: str = "sita", limit: int = 100, **where: Any) -> list[int]:
    """The seqs of what is found."""
    return [one.seq for one in await store.search(user_id, query, limit, **where)]


async def says(store: Store, *contents: str) -> None:
    """Rama writes to Sita."""
    await store.save([message(seq, content=content) for seq, content in enumerate(contents, 1)])


async def test_every_word_of_the_query_begins_a_word_of_the_message(store: Store) -> None:
    """In any order and case; a word in the middle of another is none, and one that is missing spoils it."""
    await says(store, "The survey is on Monday", "Monday's market", "Resurvey everything", "A survey, and no market.")
    assert await found(store, "survey") == [4, 1]
    assert await found(store, "SURV mon") == [1]
    assert await found(store, "mon") == [2, 1]
    assert await found(store, "market survey") == [4]
    assert await found(store, "survey tuesday") == []
    assert await found(store, "nday") == []


@pytest.mark.parametrize(
    ("text", "finds", "misses"),
    [
        ("భూమి హక్కు మనది", ["భూ", "భూమి", "హక్కు మనది", "హక్"], ["మి", "కు", "భా"]),
        ("ज़मीन हमारी है", ["ज़मीन", "हमा", "ज़मी हमारी"], ["मीन", "मारी", "जमा"]),
        ("நிலம் எங்கள் உரிமை", ["நிலம்", "எங்", "உரி"], ["லம்", "நால"]),
        ("ಭೂಮಿ ನಮ್ಮದು", ["ಭೂಮಿ", "ನಮ್"], ["ಮ್ಮ"]),
        ("زمین ہماری ہے", ["زمین", "ہما"], ["مین"]),
        ("সত্যি কথা", ["সত্য", "কথা"], ["ত্য"]),
        ("Straße 12/3-A", ["STRASSE", "straß", "12", "3 a"], ["2"]),
        ("land_rights; café", ["rights", "LAND", "cafe\u0301", "café"], ["cafe"]),
    ],
)
async def test_words_of_every_script_are_found(store: Store, text: str, finds: list[str], misses: list[str]) -> None:
    """Vowel signs and viramas are parts of words."""
    await says(store, text)
    assert [await found(store, query) for query in finds] == [[1]] * len(finds)
    assert [await found(store, query) for query in misses] == [[]] * len(misses)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("క్\u200cష", "క్ష"),  # a zero-width non-joiner, as keyboards put it
        ("क्\u200dष", "क्ष"),
        ("क\u093c", "\u0958"),  # a consonant with its dot, in one and in two
        ("কো", "ক\u09c7\u09be"),  # a vowel around its consonant, in one and in two
        ("re\u00adsurvey", "resurvey"),
        ("\u200fزمین", "زمین"),
    ],
)
async def test_one_word_is_one_however_it_is_spelled(store: Store, written: str, asked: str) -> None:
    """Composed or not, with joiners or without: whichever of the two was written."""
    await says(store, written, asked)
    assert await found(store, asked) == await found(store, written) == [2, 1]


@pytest.mark.parametrize("between", [" ", "\u200b", "❤\ufe0f", "_", "\n", "।", "-", "\0"])
async def test_words_end_at_what_is_no_letter(store: Store, between: str) -> None:
    """Also at a space that nobody sees, and at a picture."""
    await says(store, f"land{between}rights")
    assert await found(store, "rights") == [1]


@pytest.mark.parametrize("query", ['survey"', '"survey', "survey*", "(survey", "-survey", "^survey", "survey + is"])
async def test_a_query_is_text(store: Store, query: str) -> None:
    """No sign in it is an operator: signs are spaces."""
    await says(store, "the survey is")
    assert await found(store, query) == [1]


async def test_words_are_no_operators(store: Store) -> None:
    """Whoever writes NEAR means near; there are no names of columns."""
    await says(store, "not near and or", "far")
    assert await found(store, "NOT NEAR AND OR") == [1]
    assert await found(store, "text:far") == []
    assert await found(store, "far OR near") == []


async def test_nobody_finds_what_is_not_theirs(record: Record, store: Store) -> None:
    """Not by words, not in a conversation they name, not by the mark of another conversation in the index."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "lava"}))])
    mark = words.entry(FIELD, "x").split()[-1]
    await store.save([message(1, content="survey"), message(1, FIELD, content=f"survey {mark}")])
    assert await found(store, "survey", "kusa") == []
    assert await found(store, "survey", "kusa", conversation_id=RAMA_SITA) == []
    assert await found(store, "survey", "sita", conversation_id=FIELD) == []
    assert await found(store, f"survey {mark}", "sita") == []
    assert [one.conversation_id for one in await store.search("rama", "survey", 10)] == [FIELD, RAMA_SITA]
    assert await found(store, "survey", "rama", conversation_id=FIELD) == [1]


async def test_who_leaves_a_group_finds_nothing_there_any_more(record: Record, store: Store) -> None:
    """And who joins it finds what was said before, as its history shows it."""
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    await store.save([message(1, FIELD, content="survey")])
    assert await found(store, "survey") == [1]
    await record.put_groups([Group("field", "Field", frozenset({"rama", "lava"}))])
    assert await found(store, "survey") == []
    assert await found(store, "survey", "lava") == [1]


async def test_what_is_sealed_or_void_is_not_found(store: Store) -> None:
    """Nor is a message without words; the ones beside them are."""
    sealed = message(1, content="survey sealed", encryption_level="high_security")
    await store.save([sealed, void(2, content="survey"), message(3, content="👍🏽"), message(4, content="survey")])
    assert await found(store, "survey") == [4]
    assert await found(store, "sealed") == []


async def test_a_message_that_is_saved_again_is_found_once(store: Store) -> None:
    """A replay, a repeat and a place that was taken add nothing; what is new beside them is found."""
    batch = [message(1, content="survey"), message(2, content="survey")]
    await store.save(batch)
    await store.save(batch)
    again = [message(1, content="survey"), message(3, content="survey", client_id=f"{RAMA_SITA}/1")]
    taken = message(2, content="stolen", client_id="late")
    outcomes = await store.save([*again, taken, message(4, content="survey")])
    assert outcomes == [Saved.SAVED, Saved.REPEAT, Saved.TAKEN, Saved.SAVED]
    assert await found(store, "survey") == [4, 2, 1]
    assert await found(store, "stolen") == []


async def test_the_newest_are_found_first_and_no_more_than_asked(store: Store) -> None:
    """Over all conversations, by the time the server took them."""
    other = names.direct("lava", "sita")
    for seq in range(1, 40):
        place, sender = (RAMA_SITA, "rama") if seq % 2 else (other, "lava")
        await store.save([message(seq, place, sender, content=f"survey number {seq}")])
    assert await found(store, "survey", limit=3) == [39, 38, 37]
    assert await found(store, "survey", limit=2, conversation_id=other) == [38, 36]
    assert await found(store, "number 1") == [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 1]


async def test_a_result_is_the_message_as_it_was_saved(store: Store) -> None:
    """Field by field, an anonymous one with its seal."""
    saved: Message = message(1, content="survey", is_anonymous=True, sealed="sealed", media_metadata=b'{"a":1}')
    await store.save([saved])
    assert await store.search("sita", "survey", 1) == [saved]


async def test_a_large_batch_is_found_message_by_message(store: Store) -> None:
    """More than one statement writes."""
    await store.save([message(seq, content=f"word{seq} survey") for seq in range(1, 201)])
    assert [await found(store, f"word{seq}", limit=1) for seq in (64, 65, 200)] == [[64], [65], [200]]
    assert len(await found(store, "survey", limit=1000)) == 200


async def test_someone_in_thousands_of_conversations_can_search(record: Record, store: Store) -> None:
    """The query names each of them."""
    await record.put_groups([Group(f"g{number}", "Group", frozenset({"sita"})) for number in range(3000)])
    await store.save([message(1, names.group("g2999"), content="survey")])
    assert await found(store, "survey") == [1]


# SQLite alone


async def test_a_long_search_holds_up_no_other_read(tmp_path: Path) -> None:
    """It has a lane of its own."""
    over = threading.Event()
    async with open_store(tmp_path / "store.sqlite") as store, asyncio.TaskGroup() as tasks:
        searching = tasks.create_task(store._patient.run(lambda _: over.wait(10)))
        try:
            await store.save([message(1)])
            assert [one.seq for one in await store.history(RAMA_SITA, 10)] == [1]
            assert not searching.done()
        finally:
            over.set()


async def test_messages_of_an_older_file_are_found(tmp_path: Path) -> None:
    """They are indexed when the file is brought up to date, sealed and void ones left out."""
    path = tmp_path / "store.sqlite"
    first = Schema(schema.SCHEMA.steps[:1])
    async with open_lane(path, first, 1.0):
        pass
    columns = (
        "conversation_id, seq, id, key, sender_id, sender_name, sender_role, type, content, client_id,"
        "client_message_id, timestamp_ms, server_time_ms, encryption_level, is_anonymous, is_void"
    )
    rows = [
        (RAMA_SITA, seq, f"i{seq}", f"k{seq}", "rama", "Rama", "member", "text", content, "c", "c", 1, seq, level, 0, v)
        for seq, content, level, v in [
            (1, "భూమి survey", "standard", 0),
            (2, "survey", "high_security", 0),
            (3, "survey", "standard", 1),
            (4, "", "standard", 0),
        ]
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executemany(f"INSERT INTO messages ({columns}) VALUES ({', '.join('?' * 16)})", rows)  # noqa: S608 - constants
        db.execute("INSERT INTO members (conversation_id, user_id) VALUES (?, 'sita')", (RAMA_SITA,))
    async with open_store(path) as store:
        assert await found(store, "survey") == [1]
        await store.save([message(5, content="survey")])
        assert await found(store, "survey") == [5, 1]
        assert await found(store, "భూమి") == [1]


async def test_the_index_outlives_a_vacuum(tmp_path: Path) -> None:
    """Its numbers are its own: those of rows may change when a file is compacted."""
    path = tmp_path / "store.sqlite"
    async with open_store(path) as store:
        await store.save([message(seq, content=f"word{seq}") for seq in range(1, 10)])
        await store.save([message(10, content="word10", encryption_level="high_security")])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("VACUUM")
    async with open_store(path) as store:
        await store.save([message(11, content="word11")])
        assert [await found(store, f"word{seq}") for seq in (3, 9, 10, 11)] == [[3], [9], [], [11]]


async def test_a_python_that_cannot_search_is_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the first message."""

    class Poor(sqlite3.Connection):
        def execute(self, statement: str, *_: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("fts5", "fts9"))

    monkeypatch.setattr(sqlite3, "connect", Poor)
    with pytest.raises(Unstartable, match="FTS5"):
        async with open_store(tmp_path / "store.sqlite"):
            pass


def test_only_few_single_letters_are_looked_for_as_beginnings() -> None:
    """A hundred of them fit a query, and what each begins is a twentieth of the index."""
    asked = expression(["a", "b", "c", "a", "dh"], ["group:g"])
    assert asked.startswith('"a" * AND "b" * AND "c" AND "dh" * AND (')
