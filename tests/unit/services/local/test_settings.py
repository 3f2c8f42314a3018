"""Local settings: defaults, bounds, and rules that name the variable and the remedy."""

import pytest

from libs.settings import SettingsError, load
from services.local.settings import LocalSettings


def test_nothing_needs_to_be_set() -> None:
    """The defaults are those of `make up`."""
    settings = load(LocalSettings, {})
    assert (settings.gateways, settings.routers, settings.data_dir) == (2, 2, ".local")
    assert settings.websocket_ports == [3001, 3002]
    assert settings.home.is_absolute()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"GATEWAYS": "0"}, "GATEWAYS='0'.*1 to 64"),
        ({"GATEWAYS": "many"}, "GATEWAYS='many'.*1 to 64"),
        ({"WEBSOCKET_PORT": "65535"}, "WEBSOCKET_PORT=65535 with GATEWAYS=2.*up to 65534"),
        ({"REDIS_URL": "127.0.0.1:6379"}, "REDIS_URL does not begin with redis://"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud'.*debug, info, warning, error"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(environ: dict[str, str], words: str) -> None:
    """The error holds the variable, the value and what would do."""
    with pytest.raises(SettingsError, match=words):
        load(LocalSettings, environ)


def test_a_password_in_the_brokers_url_is_not_shown() -> None:
    """Errors end up in terminals and logs."""
    with pytest.raises(SettingsError) as error:
        load(LocalSettings, {"REDIS_URL": "http://:hunter2@example.org"})
    assert "hunter2" not in str(error.value)
