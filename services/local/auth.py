"""Firebase's Auth emulator, for a cluster that believes its tokens: of npm's firebase-tools, in a folder of its own."""

import shutil
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from libs.lifecycle import Unstartable
from services.local.firestore import PROJECT
from services.local.issuer import DEFAULT_TTL_S
from services.local.operators import CannotOperate
from services.local.process import Process

NAME: Final = "auth"
# Where `make emulators` puts it.
FOLDER: Final = Path(__file__).with_name("firebase")
_HOST: Final = "127.0.0.1"
_SCRIPT: Final = "node_modules/firebase-tools/lib/bin/firebase.js"
_ADDRESS: Final = "FIREBASE_AUTH_EMULATOR_HOST"
_SIGN_IN: Final = "/identitytoolkit.googleapis.com/v1/accounts:signInWithCustomToken?key=any"
_ANSWER_S: Final = 15.0


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether emulated tokens are believed and nobody runs an emulator yet."""
    return environment.get("AUTH") == "firebase-emulator" and not environment.get(_ADDRESS)


def command(home: Path, port: int, project: str = PROJECT) -> tuple[str, ...]:
    """What runs it; its settings are a file in `home`. Raises `Unstartable`, with what is to be installed."""
    node, script = shutil.which("node"), FOLDER / _SCRIPT
    if node is None:
        raise Unstartable("Firebase's Auth emulator needs Node 20 or newer, and there is none: install nodejs.")
    if not script.is_file():
        raise Unstartable(
            f"Firebase's Auth emulator is not installed: `make emulators` installs it (220 MB). Or set {_ADDRESS} to "
            "the host and port of one that runs."
        )
    settings = home / "firebase.json"
    # One word to a port that it must not choose by itself; the others are for what is not started.
    wanted = {"auth": {"host": _HOST, "port": port}, "ui": {"enabled": False}}
    settings.write_bytes(msgspec.json.encode({"emulators": wanted}))
    asked = ("emulators:start", "--only", "auth", "--project", project, "--config", str(settings))
    return (node, str(script), *asked)


def auth(home: Path, port: int, environment: dict[str, str]) -> Process:
    """The emulator on `port`. One that died is not started again: the accounts that it had are gone."""
    return Process(
        name=NAME,
        role="auth",
        command=command(home, port, _project(environment)),
        environment=environment,
        ports={"auth": port},
        host=_HOST,
        restarts=False,
    )


def told(port: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What services are told of it."""
    return {_ADDRESS: f"{_HOST}:{port}", "FIREBASE_PROJECT_ID": _project(environment)}


class Emulated:
    """Gives the tokens that such a cluster believes: the emulator makes an account of whoever it is told of."""

    def __init__(self, host: str) -> None:
        self._host = host

    def token(self, uid: str, role: str | None = None, ttl_s: int = DEFAULT_TTL_S) -> str:
        """An ID token for `uid`, as `Issuer.token`; it lives for an hour. Raises `CannotOperate`."""
        if ttl_s != DEFAULT_TTL_S:
            raise CannotOperate(f"tokens of the Auth emulator live for {DEFAULT_TTL_S} s: leave out --ttl.")
        # It takes a custom token as JSON, that nobody has to sign.
        custom = {"uid": uid, "claims": {"role": role} if role is not None else {}}
        asked = {"token": msgspec.json.encode(custom).decode(), "returnSecureToken": True}
        connection = HTTPConnection(self._host, timeout=_ANSWER_S)
        try:
            connection.request("POST", _SIGN_IN, msgspec.json.encode(asked), {"Content-Type": "application/json"})
            answer = msgspec.json.decode(connection.getresponse().read(), type=_SignedIn)
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            raise CannotOperate(f"the Auth emulator at {self._host} gave no token: {error}.") from error
        finally:
            connection.close()
        return answer.id_token


class _SignedIn(Struct, rename={"id_token": "idToken"}):
    id_token: str


def _project(environment: Mapping[str, str]) -> str:
    return environment.get("FIREBASE_PROJECT_ID") or PROJECT
