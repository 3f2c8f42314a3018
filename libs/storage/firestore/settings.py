"""Which database, and how to behave towards it: settings that services share. Knows nothing of Google's libraries."""

from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

Store = Annotated[
    Literal["sqlite", "firestore", "firestore-emulator"],
    Meta(
        description="The record: sqlite, firestore, or firestore-emulator, which forgets everything and asks nobody "
        "who they are."
    ),
]
ProjectId = Annotated[
    str,
    Meta(
        pattern=r"^([a-z][a-z0-9-]{4,28}[a-z0-9])?$",
        description="The project whose Firestore is the record, if it is another than FIREBASE_PROJECT_ID.",
    ),
]
DatabaseId = Annotated[str, Meta(min_length=1, description="The database in it, in native mode.")]
EmulatorHost = Annotated[str, Meta(description="With STORE=firestore-emulator: its host and port.")]
WritesPerS = Annotated[
    float,
    Meta(
        ge=0,
        description="Where a process begins with its writes to Firestore; it goes up by half every five minutes as "
        "Google asks of new traffic. 0: at any speed, for a database that is used to it.",
    ),
]


class Place(Struct, frozen=True):
    """Which database. `emulator` is the host and port of one, which asks for no credentials."""

    project_id: str
    database_id: str = "(default)"
    emulator: str | None = None

    @property
    def path(self) -> str:
        """Its name in every request."""
        return f"projects/{self.project_id}/databases/{self.database_id}"


class Limits(Struct, frozen=True):
    """How a client behaves towards Firestore."""

    patience_s: float = 2.0
    # While it is away, calls are told within this time.
    grace_s: float = 0.1
    commits_in_flight: int = 8
    reads_in_flight: int = 64
    # Where new traffic begins (500/50/5); 0: at any speed.
    writes_per_s: float = 500.0


class FirestoreSettings(Protocol):
    """What a service's settings say of Firestore."""

    @property
    def store(self) -> str: ...
    @property
    def store_patience_s(self) -> float: ...
    @property
    def firebase_project_id(self) -> str: ...
    @property
    def firestore_project_id(self) -> str: ...
    @property
    def firestore_database_id(self) -> str: ...
    @property
    def firestore_emulator_host(self) -> str: ...
    @property
    def firestore_writes_per_s(self) -> float: ...


def problems(s: FirestoreSettings) -> list[str]:
    """What is wrong with them together: the variable, its value, the remedy."""
    found = []
    if s.store != "sqlite" and not (s.firestore_project_id or s.firebase_project_id):
        found.append(f"FIREBASE_PROJECT_ID is not set, and STORE={s.store} needs it. Give the id of the project.")
    if s.store == "firestore-emulator" and not s.firestore_emulator_host:
        found.append("FIRESTORE_EMULATOR_HOST is not set, and STORE=firestore-emulator needs it, as in 127.0.0.1:8080.")
    if s.store != "firestore-emulator" and s.firestore_emulator_host:
        found.append(
            f"FIRESTORE_EMULATOR_HOST={s.firestore_emulator_host!r}: what an emulator keeps is gone when it ends. "
            "Unset it; if the emulator is what you want, say STORE=firestore-emulator."
        )
    return found


def place_of(s: FirestoreSettings) -> Place:
    """The database that they name."""
    return Place(
        s.firestore_project_id or s.firebase_project_id,
        s.firestore_database_id,
        s.firestore_emulator_host if s.store == "firestore-emulator" else None,
    )


def limits_of(s: FirestoreSettings) -> Limits:
    """How to behave towards it."""
    return Limits(patience_s=s.store_patience_s, writes_per_s=s.firestore_writes_per_s)
