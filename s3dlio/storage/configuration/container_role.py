"""The role of the container that this process runs in, from the server that its platform runs beside it.

What ``AWS_CONTAINER_CREDENTIALS_FULL_URI`` names: EKS pod identities, SageMaker, CloudShell, Greengrass. obstore
knows the address, but sends no token that is given in a variable, so the request is made here, for both engines.

Owns: one request to that server. Must not know: stores, the environment.
Source: AWS SDKs and Tools Reference Guide, "Container credential provider".
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.client
import ipaddress
import json
from pathlib import Path
from urllib.parse import urlsplit

from s3dlio.errors import AccessError, OptionError, StorageError
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.configuration.endpoints import masked

__all__ = ["ContainerRole"]

_LIMIT_S = 5.0
"""Seconds for the request; the server is on this machine."""

_PLATFORMS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
"""Where ECS and EKS listen. To any other host a token goes over HTTPS only."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRole:
    """A credential provider: every call reads the token anew and makes one request.

    Raises:
        OptionError: no URL, one with a name in it, or plain HTTP to another machine.
    """

    url: str
    token_file: str | None = None
    """Holds what goes into the header ``Authorization``; wins over ``token``."""
    token: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _is_safe(self.url):
            raise OptionError(
                f"container role: AWS_CONTAINER_CREDENTIALS_FULL_URI is {masked(self.url)!r}, expected https:// or the "
                "address of this machine or of ECS or EKS.",
                field="AWS_CONTAINER_CREDENTIALS_FULL_URI",
            )

    def __call__(self) -> Credentials:
        """Fresh credentials.

        Raises:
            AccessError: there is no token, or one that no header can hold, or the server refuses it.
            StorageError: the server does not answer; a retry may help.
        """
        answer = self._answer(self._token())
        try:
            found = json.loads(answer)
            until = found.get("Expiration")
            return Credentials(
                access_key_id=found["AccessKeyId"],
                secret_access_key=found["SecretAccessKey"],
                session_token=found.get("Token"),
                expires_at=None if until is None else dt.datetime.fromisoformat(until),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            # Not "from": the parser's error holds the answer, and so the keys.
            raise self._error(StorageError, "an answer without credentials", "AccessKeyId and so on", 1) from None

    def _token(self) -> str | None:
        token, place = self.token, "AWS_CONTAINER_AUTHORIZATION_TOKEN"
        if self.token_file is not None:
            place = self.token_file
            try:
                token = Path(place).read_text(encoding="ascii").strip()
            except (OSError, UnicodeError) as error:
                raise self._error(AccessError, f"no token in {place} ({error})", "one", 0) from error
        if token is not None and not (token.isascii() and token.isprintable()):  # http.client's error would show it
            raise self._error(AccessError, f"several lines or odd characters in {place}", "one token", 0)
        return token

    def _answer(self, token: str | None) -> bytes:
        from urllib.error import HTTPError  # noqa: PLC0415 - 15 ms of import that other jobs need not pay
        from urllib.request import (  # noqa: PLC0415
            HTTPDefaultErrorHandler,
            HTTPErrorProcessor,
            HTTPHandler,
            HTTPSHandler,
            OpenerDirector,
            Request,
        )

        # Neither proxies nor redirects: on another machine the address means somebody else, and the token is for nobody
        # but the server that was named.
        opener = OpenerDirector()
        for handler in (HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
            opener.add_handler(handler())
        request = Request(self.url, headers={} if token is None else {"Authorization": token})  # noqa: S310 - the URL was checked
        try:
            with opener.open(request, timeout=_LIMIT_S) as answer:
                return answer.read()
        except HTTPError as error:
            error.close()
            if error.code >= 500 or error.code == 429:
                raise self._error(StorageError, f"HTTP {error.code}", "credentials", 1, retryable=True) from error
            raise self._error(AccessError, f"HTTP {error.code}", "credentials", 1) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._error(StorageError, f"no answer ({error})", "credentials", 1, retryable=True) from error

    def _error(
        self, kind: type[StorageError], found: str, expected: str, attempts: int, *, retryable: bool | None = None
    ) -> StorageError:
        return kind(
            f"get credentials of the container at {masked(self.url)}: {found}, expected {expected}. "
            "Check AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.",
            uri=masked(self.url),
            operation="get credentials",
            attempts=attempts,
            retryable=retryable,
        )


def _is_safe(url: str) -> bool:
    """Whether ``url`` is one of a server, holds no password, and sends nothing over plain HTTP to another machine."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for what is no port
    except ValueError:
        return False
    if not parts.hostname or port == 0 or "@" in parts.netloc or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_near(parts.hostname))


def _is_near(host: str) -> bool:
    """Whether plain HTTP to ``host`` stays on this machine or on the platform's."""
    if host == "localhost" or host in _PLATFORMS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
