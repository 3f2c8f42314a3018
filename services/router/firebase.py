"""Firebase's identity service, through firebase-admin: the one file that knows it.

The library waits in threads of its own, and takes most of a second to import: it is only where it is asked for.
Credentials are Google's defaults: workload identity, or a file that GOOGLE_APPLICATION_CREDENTIALS names. The role
`roles/firebaseauth.admin` is enough; without revoking, `roles/firebaseauth.viewer`.
"""

import asyncio
from collections.abc import Collection, Mapping

import firebase_admin
import google.auth
from firebase_admin import auth, exceptions
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

from libs.lifecycle import Unstartable
from services.router.accounts import Account, Away

_TIMEOUT_S = 10.0


class FirebaseIdentity:
    """`accounts.Identity`. Raises `Unstartable` without credentials, unless an emulator is asked, which needs none."""

    def __init__(self, project: str, *, is_emulated: bool) -> None:
        if not is_emulated:
            try:
                google.auth.default()
            except DefaultCredentialsError as error:
                raise Unstartable(
                    "ACCOUNT_CHECKS=on: there are no credentials of Google's. Run with workload identity, or set "
                    "GOOGLE_APPLICATION_CREDENTIALS to a key file; ACCOUNT_CHECKS=off believes tokens until they end."
                ) from error
        options = {"projectId": project, "httpTimeout": _TIMEOUT_S}
        self._app = firebase_admin.initialize_app(options=options, name="talowa")

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
