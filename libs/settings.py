"""Settings from environment variables: one frozen type a service, read once, checked before anything starts.

A field `websocket_port` is the variable `WEBSOCKET_PORT`. Its `Meta(description=…)` says what it is
for; that sentence is also the remedy in an error. Values of fields whose name ends in `_secret` or
`_token` are never shown.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from libs.telemetry.logs import Level

# With it, Google's libraries believe tokens that nobody signed.
_EMULATOR: Final = "FIREBASE_AUTH_EMULATOR_HOST"

Auth = Literal["local", "firebase", "firebase-emulator"]
Traced = Literal["off", "otlp"]


class SettingsError(Exception):
    """A setting is missing or wrong. The message names the variable, the value and the remedy."""


class Settings(Struct, frozen=True, kw_only=True):
    """Base of every service's settings."""

    def problems(self) -> list[str]:
        """Rules across fields that do not hold, each a sentence with the variable and the remedy."""
        return []


class ServiceSettings(Settings, frozen=True, kw_only=True):
    """What every service of the cluster is told."""

    redis_url: Annotated[str, Meta(description="The broker, such as redis://127.0.0.1:6379.")]
    internal_host: Annotated[str, Meta(description="Where /healthz, /readyz and /metrics listen.")] = "0.0.0.0"
    internal_port: Annotated[int, Meta(ge=0, le=65535, description="A port from 0 (any) to 65535.")] = 9100
    log_level: Annotated[Level, Meta(description="One of debug, info, warning, error.")] = "info"
    auth: Annotated[
        Auth,
        Meta(
            description="Who issues ID tokens: local, firebase, or firebase-emulator, whose tokens nobody signed and "
            "anybody can make."
        ),
    ] = "local"


class PartitionedSettings(ServiceSettings, frozen=True, kw_only=True):
    """What services that write to partitions must agree on besides."""

    partitions: Annotated[
        int,
        Meta(ge=1, le=99, description="The same on every service; each flush costs a stream more for each. 1 to 99."),
    ] = 16
    cluster_secret: Annotated[
        str,
        Meta(
            description="The same on gateways and routers, at least 32 characters: seals what would name an anonymous "
            "sender on its way. Several, with commas: the first seals, all open. Empty: no anonymous messages."
        ),
    ] = ""
    canary_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="The same on gateways and routers: a canary goes through every partition this often; who hangs "
            "for three of these starts over. 1 or more; 0: none, and nobody does.",
        ),
    ] = 5.0
    tracing: Annotated[
        Traced,
        Meta(
            description="otlp: stations of traced messages go to a collector, by OTEL_EXPORTER_OTLP_ENDPOINT; it needs "
            "requirements/tracing.txt."
        ),
    ] = "off"

    def problems(self) -> list[str]:
        """What the fields cannot say one by one."""
        if 0 < self.canary_s < 1:
            wrong = f"CANARY_S={self.canary_s:g}: what turns once a second would seem to hang"
            return [f"{wrong}. Give 1 or more, or 0 for no canaries."]
        return []


S = TypeVar("S", bound=Settings)


def load(kind: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read `kind` from the environment. Raises `SettingsError` naming every problem at once."""
    given = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(kind):
        variable = field.name.upper()
        text = given.get(variable)
        if text is None or text == "":
            if field.required:
                problems.append(f"{variable} is not set. {purpose(field)}")
            continue
        try:
            text.encode()  # what is not UTF-8, Python hands on as half characters
            values[field.name] = msgspec.convert(text, field.type, strict=False, dec_hook=_from_text)
        except msgspec.ValidationError as error:
            problems.append(f"{variable}={_shown(field.name, text)}: {_words(error)}. {purpose(field)}")
        except UnicodeEncodeError:
            problems.append(f"{variable}={_shown(field.name, text)}: It is not UTF-8. {purpose(field)}")
    if problems:
        raise SettingsError("\n".join(problems))
    settings = kind(**values)
    if problems := [*settings.problems(), *_believing_all(settings, given)]:
        raise SettingsError("\n".join(problems))
    return settings


def purpose(field: msgspec.structs.FieldInfo) -> str:
    """What a setting is for: the sentence in its `Meta`."""
    info = msgspec.inspect.type_info(field.type)
    extra = info.extra_json_schema if isinstance(info, msgspec.inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def _believing_all(settings: Settings, given: Mapping[str, str]) -> list[str]:
    host = given.get(_EMULATOR)
    if host is None or not isinstance(settings, ServiceSettings) or settings.auth == "firebase-emulator":
        return []
    remedy = "Unset it; if the emulator is what you want, say AUTH=firebase-emulator."
    return [f"{_EMULATOR}={host!r}: with it any token would be believed. {remedy}"]


def _from_text(kind: type[Any], text: Any) -> Any:
    if kind is Path:
        return Path(text)
    raise NotImplementedError(kind)


def _shown(name: str, text: str) -> str:
    return "…" if name.endswith(("_secret", "_token", "_url")) and _is_sensitive(name, text) else repr(text)


def _is_sensitive(name: str, text: str) -> bool:
    return not name.endswith("_url") or "@" in text


def _words(error: msgspec.ValidationError) -> str:
    return str(error).replace("`", "")
