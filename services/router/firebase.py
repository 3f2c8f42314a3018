"""Firebase through firebase-admin: who may sign in still, and pushes. The one file that knows the library.

Importing it takes most of a second: it is only where it is asked for. Credentials are Google's defaults: workload
identity, or a file that GOOGLE_APPLICATION_CREDENTIALS names. The roles `roles/firebaseauth.admin` and
`roles/firebasecloudmessaging.admin` are enough. Emulators, and what stands in for Google, are sent none.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import firebase_admin
import google.auth
from firebase_admin import auth, credentials, exceptions, messaging
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

from libs.lifecycle import Unstartable
from services.router.accounts import Account, Away
from services.router.push_jobs import Fate, Job, Push

GOOGLE: Final = "https://fcm.googleapis.com"

_TIMEOUT_S: Final = 10.0
# What is worth waking a phone for is worth it for a day; a warning for as long as it may lie in wait.
_TTL_S: Final = 24 * 3600
_URGENT_TTL_S: Final = 28 * 24 * 3600
_SEND_AT_ONCE: Final = 500
_LATER: Final = (
    messaging.QuotaExceededError,
    exceptions.ResourceExhaustedError,
    exceptions.UnavailableError,
    exceptions.InternalError,
    exceptions.DeadlineExceededError,
    exceptions.UnknownError,
    exceptions.UnauthenticatedError,
)


class _Nobody(credentials.Base):  # type: ignore[misc] # the library has no types
    """Credentials of nobody."""

    def get_credential(self) -> AnonymousCredentials:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]


class FirebaseIdentity:
    """`accounts.Identity`. Raises `Unstartable` without credentials, unless an emulator is asked."""

    def __init__(self, project: str, *, is_emulated: bool) -> None:
        self._app = _open(project, "identity", "ACCOUNT_CHECKS=on", "off believes tokens until they end", is_emulated)

    async def look(self, user_ids: Collection[str]) -> Mapping[str, Account]:
        """See `Identity`."""
        asked = [auth.UidIdentifier(user_id) for user_id in user_ids]
        try:
            found = await asyncio.to_thread(auth.get_users, asked, self._app)
        except (exceptions.FirebaseError, GoogleAuthError, OSError) as error:
            raise Away(type(error).__name__) from error
        return {user.uid: Account(user.disabled, user.tokens_valid_after_timestamp) for user in found.users}

    async def revoke(self, user_id: str) -> None:
        """See `Identity`. Who has no account has nothing to be revoked."""
        try:
            await asyncio.to_thread(auth.revoke_refresh_tokens, user_id, self._app)
        except auth.UserNotFoundError:
            return
        except (exceptions.FirebaseError, GoogleAuthError, OSError) as error:
            raise Away(type(error).__name__) from error


class FirebaseSender:
    """`pushes.Sender`, by FCM's HTTP v1 API. Raises `Unstartable` without credentials, unless `url` is not Google's."""

    def __init__(self, project: str, url: str) -> None:
        self._app = _open(project, "messaging", "PUSH=fcm", "log says what would be pushed", url != GOOGLE)
        # The library has no setting for it; the name is the pinned version's.
        messaging._MessagingService.FCM_URL = f"{url}/v1/projects/{{0}}/messages:send"  # noqa: SLF001

    async def send(self, jobs: Sequence[Job]) -> list[list[Fate]]:
        """See `Sender`."""
        messages = [message for job in jobs for message in _messages(job)]
        fates: list[Fate] = []
        for start in range(0, len(messages), _SEND_AT_ONCE):
            fates += await self._send(messages[start : start + _SEND_AT_ONCE])
        of_all = iter(fates)
        return [[next(of_all) for _ in range(len(job.tokens) + bool(job.topic))] for job in jobs]

    async def _send(self, messages: list[messaging.Message]) -> list[Fate]:
        try:
            said = await messaging.send_each_async(messages, dry_run=False, app=self._app)
        except (exceptions.FirebaseError, GoogleAuthError, OSError):
            return [Fate.RETRY] * len(messages)
        return [Fate.SENT if one.success else _fate(one.exception) for one in said.responses]


def _open(project: str, name: str, setting: str, instead: str, is_emulated: bool) -> firebase_admin.App:
    if not is_emulated:
        try:
            google.auth.default()
        except DefaultCredentialsError as error:
            raise Unstartable(
                f"{setting}: there are no credentials of Google's. Run with workload identity, or set "
                f"GOOGLE_APPLICATION_CREDENTIALS to a key file; {instead}."
            ) from error
    credential = _Nobody() if is_emulated else None
    options = {"projectId": project, "httpTimeout": _TIMEOUT_S}
    return firebase_admin.initialize_app(credential, options, name=f"talowa-{name}")


def _messages(job: Job) -> list[messaging.Message]:
    """One for each device, or one for the topic."""
    if job.topic:
        return [_message(job.push, topic=job.topic)]
    return [_message(job.push, token=token) for token in job.tokens]


def _message(push: Push, *, token: str | None = None, topic: str | None = None) -> messaging.Message:
    shown = messaging.Notification(push.title, push.body) if push.title else None
    priority, ttl_s = ("high", _URGENT_TTL_S) if push.is_urgent else ("normal", _TTL_S)
    return messaging.Message(
        data=push.data,
        notification=shown,
        token=token,
        topic=topic,
        android=messaging.AndroidConfig(
            collapse_key=push.collapse,
            priority=priority,
            ttl=ttl_s,
            notification=messaging.AndroidNotification(tag=push.collapse) if shown else None,
        ),
        apns=messaging.APNSConfig(
            headers={"apns-collapse-id": push.collapse, "apns-priority": "10" if push.is_urgent and shown else "5"},
            payload=messaging.APNSPayload(aps=messaging.Aps(content_available=True)),
        ),
    )


def _fate(error: Exception) -> Fate:
    match error:
        case messaging.UnregisteredError() | messaging.SenderIdMismatchError():
            return Fate.DEAD
        case _ if isinstance(error, _LATER):
            return Fate.RETRY
        case _:
            return Fate.REFUSED
