"""Settings of the local cluster, and the environment that its processes inherit."""

import os
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from libs.settings import Settings
from libs.telemetry.logs import Level

_LAST_PORT = 65535
_MIN_SECRET = 32
_REDIS_SCHEMES = (
    "redis://",
    "rediss://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
    "unix://",
)


class LocalSettings(Settings, frozen=True, kw_only=True):
    """What `talowa` reads from the environment."""

    gateways: Annotated[int, Meta(ge=1, le=64, description="How many gateways to run: a number from 1 to 64.")] = 2
    routers: Annotated[int, Meta(ge=1, le=64, description="How many routers to run: a number from 1 to 64.")] = 2
    presences: Annotated[
        int, Meta(ge=1, le=8, description="How many copies of presence to run: a number from 1 to 8.")
    ] = 1
    data_dir: Annotated[
        str, Meta(min_length=1, description="The folder for the store, the broker's file, keys and logs.")
    ] = ".local"
    store: Annotated[
        Literal["sqlite", "firestore"],
        Meta(description="The record: sqlite, or firestore on Google's emulator, which forgets everything at the end."),
    ] = "sqlite"
    websocket_host: Annotated[
        str, Meta(min_length=1, description="The address clients connect to; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1"
    websocket_port: Annotated[
        int, Meta(ge=1, le=_LAST_PORT, description="The first gateway's port: the others take the next ones.")
    ] = 3001
    websocket_url: Annotated[
        str | None, Meta(description="The URL that /info tells clients, if it is not this machine's own address.")
    ] = None
    redis_url: Annotated[
        str | None, Meta(description="A broker to use instead of the embedded one, such as redis://127.0.0.1:6379.")
    ] = None
    partitions: Annotated[
        int, Meta(ge=1, le=99, description="Into how many partitions conversations are spread: 1 to 99.")
    ] = 16
    log_level: Annotated[Level, Meta(description="One of debug, info, warning, error.")] = "info"

    def problems(self) -> list[str]:
        """Rules across fields that do not hold."""
        found = []
        if self.websocket_port + self.gateways - 1 > _LAST_PORT:
            found.append(
                f"WEBSOCKET_PORT={self.websocket_port} with GATEWAYS={self.gateways} goes past port {_LAST_PORT}. "
                f"Choose a WEBSOCKET_PORT up to {_LAST_PORT - self.gateways + 1}."
            )
        if self.redis_url is not None and not self.redis_url.startswith(_REDIS_SCHEMES):
            found.append(
                "REDIS_URL does not begin with redis://, rediss://, redis+sentinel:// or redis+cluster://. "
                "Correct it, or unset it to use the embedded broker."
            )
        return found

    @property
    def home(self) -> Path:
        """`DATA_DIR` as an absolute path."""
        return Path(self.data_dir).expanduser().absolute()

    @property
    def database(self) -> Path:
        """Where the SQLite store is."""
        return self.home / "talowa.db"

    @property
    def last_seen(self) -> Path:
        """Where presence keeps when people were last seen."""
        return self.home / "presence.db"

    @property
    def websocket_ports(self) -> list[int]:
        """One port a gateway, in order."""
        return list(range(self.websocket_port, self.websocket_port + self.gateways))


class IssuanceSettings(Settings, frozen=True, kw_only=True):
    """What the local token issuer reads from the environment where it is a process of its own."""

    token_signing_key_file: Annotated[
        Path, Meta(description="The private key, a PEM file; gateways have its public half as TOKEN_KEY_FILE.")
    ]
    admin_token: Annotated[str, Meta(description="At least 32 characters: opens POST /people.")]
    sqlite_path: Annotated[Path, Meta(description="The file of the SQLite store: that of the routers.")] = Path(
        ".local/store.db"
    )
    store_patience_s: Annotated[
        float, Meta(gt=0, le=60, description="How long a store call may take before the store counts as away.")
    ] = 30.0
    token_lifetime_s: Annotated[
        int, Meta(ge=60, le=366 * 86_400, description="How long a token is good; one of Firebase is for an hour.")
    ] = 3600
    internal_host: Annotated[str, Meta(description="Where /people and /healthz listen.")] = "0.0.0.0"
    internal_port: Annotated[int, Meta(ge=0, le=_LAST_PORT, description="A port from 0 (any) to 65535.")] = 9100
    log_level: Annotated[Level, Meta(description="One of debug, info, warning, error.")] = "info"

    def problems(self) -> list[str]:
        """Rules across fields that do not hold."""
        found = []
        if len(self.admin_token) < _MIN_SECRET:
            found.append(
                f"ADMIN_TOKEN has {len(self.admin_token)} characters: at least {_MIN_SECRET} are needed. "
                "Make one with: openssl rand -hex 32."
            )
        if not self.token_signing_key_file.is_file():
            found.append(
                f"TOKEN_SIGNING_KEY_FILE={self.token_signing_key_file}: there is no such file. "
                "Make one with: openssl genrsa -out private.pem 2048."
            )
        return found


def inherited() -> dict[str, str]:
    """This process's own environment, which its children get too: PATH, and settings a developer tries out."""
    return dict(os.environ)
