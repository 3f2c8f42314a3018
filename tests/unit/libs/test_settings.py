"""Settings: read from text, refused with the variable, the value and the remedy."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import pytest
from msgspec import Meta

from libs import settings
from services.gateway.settings import GatewaySettings
from services.presence.settings import PresenceSettings
from services.router.settings import RouterSettings


class Example(settings.Settings, frozen=True, kw_only=True):
    """Something of each kind."""

    url_to_use_url: Annotated[str, Meta(description="Where to.")]
    count: Annotated[int, Meta(ge=1, le=9, description="From 1 to 9.")] = 3
    folder: Annotated[Path, Meta(description="A folder.")] = Path("here")
    a_secret: Annotated[str, Meta(min_length=8, description="Eight characters.")] = ""

    def problems(self) -> list[str]:
        """Across fields."""
        return ["COUNT=9 with FOLDER=there: choose one."] if self.count == 9 and self.folder == Path("there") else []


def refusal(environ: dict[str, str]) -> str:
    """What is said when `Example` is read from this environment."""
    with pytest.raises(settings.SettingsError) as refused:
        settings.load(Example, environ)
    return str(refused.value)


def test_what_is_not_set_has_its_default() -> None:
    """So has what is set to nothing."""
    read = settings.load(Example, {"URL_TO_USE_URL": "redis://x", "COUNT": ""})
    assert read == Example(url_to_use_url="redis://x")
    assert settings.load(Example, {"URL_TO_USE_URL": "x", "COUNT": "5", "FOLDER": "/x"}).folder == Path("/x")


def test_every_problem_is_told_at_once() -> None:
    """With the variable, the value and the remedy."""
    said = refusal({"COUNT": "many"})
    assert "URL_TO_USE_URL is not set. Where to." in said
    assert "COUNT='many'" in said
    assert "From 1 to 9." in said


def test_a_number_out_of_range_is_refused() -> None:
    """With its range."""
    assert "COUNT='10'" in refusal({"URL_TO_USE_URL": "x", "COUNT": "10"})


def test_what_is_no_text_is_refused_as_all_else() -> None:
    """Bytes that are no UTF-8, as Python hands them on."""
    said = refusal({"URL_TO_USE_URL": "x", "COUNT": "\udcff", "A_SECRET": "\udcff" * 9})
    assert "It is not UTF-8. From 1 to 9." in said
    assert "A_SECRET=…: It is not UTF-8." in said


def test_a_rule_across_fields_is_checked() -> None:
    """Before anything connects."""
    assert refusal({"URL_TO_USE_URL": "x", "COUNT": "9", "FOLDER": "there"}) == "COUNT=9 with FOLDER=there: choose one."


def test_a_secret_is_not_shown() -> None:
    """Not even a wrong one."""
    said = refusal({"URL_TO_USE_URL": "x", "A_SECRET": "hush"})
    assert "A_SECRET" in said
    assert "hush" not in said


@pytest.mark.parametrize("kind", [GatewaySettings, RouterSettings, PresenceSettings])
def test_every_setting_says_what_it_is_for(kind: type[settings.Settings]) -> None:
    """The sentence is the remedy when it is wrong."""
    assert [
        field.name for field in msgspec.structs.fields(kind) if not settings.purpose(field).rstrip().endswith(".")
    ] == []


_GATEWAY: Final = {"REDIS_URL": "redis://127.0.0.1", "TICKET_SECRET": "t" * 32}
_EMULATED: Final = {"FIREBASE_AUTH_EMULATOR_HOST": "localhost:9099"}
_PROJECT: Final = {"FIREBASE_PROJECT_ID": "demo-talowa"}


@pytest.mark.parametrize("kind", [GatewaySettings, RouterSettings, PresenceSettings])
def test_the_emulator_is_believed_only_when_asked_for_in_so_many_words(kind: type[settings.Settings]) -> None:
    """A variable that was left over would have every token believed, so a service that finds it does not start."""
    for auth in ("local", "firebase"):
        with pytest.raises(settings.SettingsError, match=r"FIREBASE_AUTH_EMULATOR_HOST='localhost:9099'.*Unset it"):
            settings.load(kind, _GATEWAY | _PROJECT | _EMULATED | {"AUTH": auth, "TOKEN_KEY_FILE": __file__})
    settings.load(kind, _GATEWAY | _PROJECT | _EMULATED | {"AUTH": "firebase-emulator"})


@pytest.mark.parametrize("variable", ["TICKET_SECRET", "ADMIN_TOKEN", "CLUSTER_SECRET"])
def test_a_secret_may_be_several_while_it_is_changed(variable: str) -> None:
    """Each is looked at by itself, and none is shown."""
    given = _GATEWAY | {"TOKEN_KEY_FILE": __file__}
    settings.load(GatewaySettings, given | {variable: f"{'o' * 32}, {'n' * 32}"})
    for wrong in (f"{'o' * 32},short-one", ","):
        with pytest.raises(settings.SettingsError, match=f"{variable} has .*openssl|{variable} has no key") as refused:
            settings.load(GatewaySettings, given | {variable: wrong})
        assert "short-one" not in str(refused.value)


@pytest.mark.parametrize("kind", [GatewaySettings, PresenceSettings])
@pytest.mark.parametrize("auth", ["firebase", "firebase-emulator"])
def test_firebase_needs_to_know_its_project(kind: type[settings.Settings], auth: str) -> None:
    """Any other project's users would be let in."""
    with pytest.raises(settings.SettingsError, match="FIREBASE_PROJECT_ID is not set"):
        settings.load(kind, _GATEWAY | {"AUTH": auth})
    with pytest.raises(settings.SettingsError, match="FIREBASE_PROJECT_ID='No Project'"):
        settings.load(kind, _GATEWAY | {"AUTH": auth, "FIREBASE_PROJECT_ID": "No Project"})
    with pytest.raises(settings.SettingsError, match="AUTH='google'"):
        settings.load(kind, _GATEWAY | {"AUTH": "google"})
