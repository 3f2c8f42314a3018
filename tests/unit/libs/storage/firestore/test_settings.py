"""Which database a service uses, and what it refuses to start with."""

import pytest

from libs.settings import SettingsError, load
from libs.storage.firestore.settings import Place, limits_of, place_of
from services.router.settings import RouterSettings

_URL = {"REDIS_URL": "redis://x"}


def test_the_project_of_sign_in_is_that_of_the_record() -> None:
    """Unless another is named."""
    given = {**_URL, "STORE": "firestore", "FIREBASE_PROJECT_ID": "talowa-1a2b3"}
    assert place_of(load(RouterSettings, given)) == Place("talowa-1a2b3")
    other = load(RouterSettings, {**given, "FIRESTORE_PROJECT_ID": "talowa-record", "FIRESTORE_DATABASE_ID": "chat"})
    assert place_of(other) == Place("talowa-record", "chat")
    assert limits_of(load(RouterSettings, {**given, "STORE_PATIENCE_S": "3"})).patience_s == 3


def test_an_emulator_is_used_when_it_is_asked_for_in_so_many_words() -> None:
    """By its host and port."""
    given = {
        **_URL,
        "STORE": "firestore-emulator",
        "FIREBASE_PROJECT_ID": "demo-talowa",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080",
    }
    assert place_of(load(RouterSettings, given)) == Place("demo-talowa", emulator="127.0.0.1:8080")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"STORE": "firestore"}, "FIREBASE_PROJECT_ID is not set, and STORE=firestore needs it"),
        ({"STORE": "firestore-emulator", "FIRESTORE_PROJECT_ID": "demo-talowa"}, "FIRESTORE_EMULATOR_HOST is not set"),
        ({"FIRESTORE_EMULATOR_HOST": "localhost:8080"}, "say STORE=firestore-emulator"),
        (
            {"STORE": "firestore", "FIRESTORE_PROJECT_ID": "talowa-1", "FIRESTORE_EMULATOR_HOST": "localhost:8080"},
            "Unset it",
        ),
        ({"STORE": "firestore", "FIRESTORE_PROJECT_ID": "Talowa!"}, "FIRESTORE_PROJECT_ID='Talowa!'"),
        ({"STORE": "mongodb"}, "STORE='mongodb'"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_told_by_name(given: dict[str, str], said: str) -> None:
    """With what to do."""
    with pytest.raises(SettingsError) as refused:
        load(RouterSettings, {**_URL, **given})
    assert said in str(refused.value)
