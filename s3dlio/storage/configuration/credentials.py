"""Credentials that can expire: what they are, when they do, and how fresh ones are had.

Owns: the rule of renewal, for both engines. Must not know: engines, or how a provider does its work.

Guarantees: credentials whose end is known are renewed before it, without a request that fails; options hold the
keys that are in use, so a store that is pickled takes them along; nothing is asked of a provider before it is needed.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Protocol

from s3dlio.errors import AccessError, OptionError, S3dlioError, StorageError
from s3dlio.uri import CONTROL

if TYPE_CHECKING:
    from datetime import datetime

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["CredentialProvider", "Credentials", "EnvironmentCredentials", "NoCredentials", "due", "in_use", "renewed"]

MARGIN_S = 60.0
"""Seconds before their end at which credentials are renewed: more than a request and the clocks' difference take.
STS gives none for less than 15 minutes."""

_ASK_AGAIN_S = 5.0
"""Least seconds between two questions for new credentials while the old ones are valid: a provider may be slow."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One set of S3 credentials.

    Raises:
        OptionError: a key is empty, no text, or has a line break or the like; or ``expires_at`` has no time zone.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    """Of temporary credentials."""
    expires_at: datetime | None = None
    """Aware time from which on they are refused; None if they do not expire, or nobody says when. In their last minute
    their provider is asked every few seconds, and may fail; from then on it is asked before every request."""

    def __post_init__(self) -> None:
        for field in ("access_key_id", "secret_access_key"):
            if not getattr(self, field):
                raise OptionError(f"credentials: {field} is empty, expected a key. Check its source.", field=field)
        for field in ("access_key_id", "secret_access_key", "session_token"):
            value = getattr(self, field)
            if not isinstance(value, str | None):
                found = type(value).__name__
                raise OptionError(f"credentials: {field} is {found}, expected text. Check its source.", field=field)
            check_characters(f"credentials: {field}", field, value or "")
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise OptionError(
                f"credentials: expires_at is {self.expires_at}, expected a time with a zone. Use datetime.now(UTC).",
                field="expires_at",
            )

    def __repr__(self) -> str:
        return f"Credentials(access_key_id='***', expires_at={self.expires_at!r})"


def check_characters(what: str, field: str, value: str) -> None:
    """Raise OptionError for a line break or the like, which no header of a request can hold. Never shows ``value``."""
    if CONTROL.search(value) is not None:
        where = "inside" if CONTROL.search(value.rstrip()) else "at its end"
        raise OptionError(
            f"{what} has a line break or another control character {where}, expected none. "
            "Check the file or variable that it comes from.",
            field=field,
        )


class CredentialProvider(Protocol):
    """Where S3 credentials come from. Any callable without arguments; it may be called from any thread."""

    def __call__(self) -> Credentials | None:
        """The credentials to use from now on; None where there are none to be had."""


@dataclasses.dataclass(frozen=True, slots=True)
class EnvironmentCredentials:
    """The keys in this process's environment: the program may have set new ones since."""

    def __call__(self) -> Credentials | None:
        """What ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN`` say now."""
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not key or not secret:
            return None
        return Credentials(
            access_key_id=key, secret_access_key=secret, session_token=os.environ.get("AWS_SESSION_TOKEN") or None
        )


@dataclasses.dataclass(frozen=True, slots=True)
class NoCredentials:
    """For a process that has none and was told not to ask the machine for them."""

    def __call__(self) -> Credentials | None:
        """Never returns.

        Raises:
            AccessError: always.
        """
        raise AccessError(
            "get credentials: found none in the environment and the AWS files, and AWS_EC2_METADATA_DISABLED forbids "
            "to ask the machine, expected some. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or "
            "pass anonymous=True for public objects.",
            operation="get credentials",
            attempts=0,
        )


def due(options: StorageOptions) -> bool:
    """Whether to call ``renewed`` before the next request: the keys are missing, or about to expire. Asks nobody."""
    if options.credential_provider is None or options.anonymous:
        return False
    return options.access_key_id is None or expiring(options.credentials_expire_at)


def expiring(expires_at: datetime | None) -> bool:
    """Whether credentials that end at ``expires_at`` should be used no more."""
    return expires_at is not None and expires_at.timestamp() - time.time() < MARGIN_S


def may_wait(expires_at: datetime | None, in_vain_at: float) -> bool:
    """Whether credentials that end at ``expires_at`` are valid, and newer ones were asked for in vain just now.

    Args:
        expires_at: None where they do not end.
        in_vain_at: by ``time.monotonic``.
    """
    return not _ended(expires_at) and time.monotonic() - in_vain_at < _ASK_AGAIN_S


def renewed(uri: Uri | str, options: StorageOptions) -> StorageOptions | None:
    """``options`` with fresh credentials from their provider; None if there are none but those in use.

    Args:
        uri: of the store, for errors.
        options: how it is reached. What ``StorageOptions.from_env`` found in a profile, a web identity or the
            environment has a provider, too: it looks there again.

    Raises:
        AccessError: the provider failed, or refuses.
        OptionError: it returned something else than ``Credentials``.
    """
    if options.credential_provider is None or options.anonymous:
        return None
    fresh = fetch(uri, options.credential_provider)
    if fresh is None or _keys(fresh) == _keys(options):
        return None
    return options.replace(
        access_key_id=fresh.access_key_id,
        secret_access_key=fresh.secret_access_key,
        session_token=fresh.session_token,
        credentials_expire_at=fresh.expires_at,
    )


def renewed_early(uri: Uri | str, options: StorageOptions) -> StorageOptions | None:
    """As ``renewed``, but a provider that fails is no error as long as the keys in use are valid."""
    try:
        return renewed(uri, options)
    except StorageError:
        if options.access_key_id is None or _ended(options.credentials_expire_at):
            raise
        return None  # it is asked again soon


def in_use(uri: Uri | str, options: StorageOptions) -> Credentials | None:
    """The credentials to make a client with; None to send none, or those that the machine offers.

    Raises:
        AccessError, OptionError: as ``renewed``.
    """
    if due(options):
        options = renewed_early(uri, options) or options
    return known(options)


def known(options: StorageOptions) -> Credentials | None:
    """The credentials in ``options``; None to send none. Asks nobody."""
    if options.anonymous or not options.access_key_id or not options.secret_access_key:
        return None
    return Credentials(
        access_key_id=options.access_key_id,
        secret_access_key=options.secret_access_key,
        session_token=options.session_token,
        expires_at=options.credentials_expire_at,
    )


def fetch(uri: Uri | str, provider: CredentialProvider) -> Credentials | None:
    """What ``provider`` gives now; its own failures as an AccessError that names ``uri``."""
    try:
        found = provider()
    except S3dlioError:
        raise
    except Exception as error:
        raise AccessError(
            f"get credentials for {uri}: the provider failed ({type(error).__name__}: {error}), expected credentials. "
            "Mend credential_provider.",
            uri=str(uri),
            operation="get credentials",
            attempts=0,
        ) from error
    if found is not None and not isinstance(found, Credentials):
        raise OptionError(
            f"get credentials for {uri}: the provider returned {type(found).__name__}, expected s3dlio.Credentials.",
            field="credential_provider",
        )
    return found


def _ended(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at.timestamp() <= time.time()


def fetch_early(uri: Uri | str, provider: CredentialProvider, last: Credentials | None) -> Credentials | None:
    """As ``fetch``, but ``last`` if the provider has none, or fails while those are valid."""
    try:
        return fetch(uri, provider) or last
    except StorageError:
        if last is None or _ended(last.expires_at):
            raise
        return last


def _keys(of: StorageOptions | Credentials) -> tuple[str | None, str | None, str | None]:
    return of.access_key_id, of.secret_access_key, of.session_token
