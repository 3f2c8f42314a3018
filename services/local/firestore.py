"""Google's Firestore emulator, for a cluster that runs on it: a Java program that comes with gcloud."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libs.lifecycle import Unstartable
from services.local.process import Process

NAME: Final = "firestore"
# Google's tools never take a project with this beginning for a real one.
PROJECT: Final = "demo-talowa"
_HOST: Final = "127.0.0.1"
_MAIN: Final = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_JAR: Final = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
# It lives for a while and does little: compiled quickly, not well. It has room from the start: growing into it, half of
# what it did was to look for garbage. Its English is what errors are told by.
_JVM: Final = ("-Xmx2g", "-Xms2g", "-Xmn1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Duser.language=en")


def command(port: int, *options: str) -> tuple[str, ...]:
    """What runs it. Raises `Unstartable`, with what is to be installed.

    Its Java is run itself: `gcloud` would put three processes between.
    """
    java, gcloud = shutil.which("java"), shutil.which("gcloud")
    if java is None:
        raise Unstartable("The Firestore emulator needs Java, and there is none: install default-jre-headless.")
    if gcloud is None:
        raise Unstartable("The Firestore emulator comes with gcloud, which is not installed: install google-cloud-cli.")
    jar = Path(gcloud).resolve().parents[1] / _JAR
    if not jar.is_file():
        raise Unstartable("gcloud has no Firestore emulator: install google-cloud-cli-firestore-emulator.")
    listen = ("start", f"--host={_HOST}", f"--port={port}", "--database-mode=firestore-native")
    return (java, *_JVM, "-cp", str(jar), _MAIN, *listen, *options)


def firestore(port: int, environment: dict[str, str]) -> Process:
    """The emulator on `port`. One that died is not started again: what it kept is gone."""
    return Process(
        name=NAME,
        role="store",
        command=command(port),
        environment=environment,
        ports={"store": port},
        host=_HOST,
        restarts=False,
    )


def told(port: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What services are told of it, beside what they are told already."""
    return {
        "STORE": "firestore-emulator",
        "FIRESTORE_EMULATOR_HOST": f"{_HOST}:{port}",
        "FIRESTORE_PROJECT_ID": PROJECT,
        # Whose tokens are believed, unless they are of another project than what is kept here.
        "FIREBASE_PROJECT_ID": environment.get("FIREBASE_PROJECT_ID", PROJECT),
        "FIRESTORE_WRITES_PER_S": "0",
    }
