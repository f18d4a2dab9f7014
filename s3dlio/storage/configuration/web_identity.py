"""A web identity exchanged for S3 credentials: what Kubernetes gives a pod (EKS, or any cluster with OpenID Connect).

Owns: one request to a security token service. Must not know: stores, the environment.
Source: AWS STS API, "AssumeRoleWithWebIdentity" (an unsigned request: the token is the proof).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.client
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

from s3dlio.errors import AccessError, OptionError, StorageError
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.configuration.endpoints import masked

if TYPE_CHECKING:
    from urllib.request import Request

__all__ = ["WebIdentity"]

_PASSING = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"}
"""Codes of refusals that pass; STS sends them with HTTP 400."""

_LIMIT_S = 10.0
"""Seconds for the whole exchange; STS answers within one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentity:
    """A credential provider: every call reads the token anew and exchanges it by one request."""

    token_file: str
    """Replaced by the cluster before the token in it expires."""
    role_arn: str
    session_name: str
    """How the server's log calls this job."""
    endpoint_url: str
    """Of the security token service."""
    ca_bundle: str | None = None
    """As in ``StorageOptions``."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint_url)
            legal = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            legal = False
        if not legal:
            raise OptionError(
                f"web identity: AWS_ENDPOINT_URL_STS is {masked(self.endpoint_url)!r}, expected http://host:port or "
                "https://host.",
                field="AWS_ENDPOINT_URL_STS",
            )

    def __call__(self) -> Credentials:
        """Fresh credentials.

        Raises:
            AccessError: there is no token, or the service refuses it.
            StorageError: the service does not answer; a retry may help.
        """
        try:
            token = Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise self._error(AccessError, f"no token in {self.token_file} ({error})", "one", 0) from error
        from urllib.request import Request  # noqa: PLC0415 - 15 ms of import that other jobs need not pay

        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self.role_arn,
            "RoleSessionName": self.session_name,
            "WebIdentityToken": token,
        }
        return self._credentials(self._answer(Request(self.endpoint_url, data=urlencode(form).encode())))  # noqa: S310 - the URL's scheme was checked

    def _answer(self, request: Request) -> bytes:
        import ssl  # noqa: PLC0415 - see __call__
        from urllib.error import HTTPError  # noqa: PLC0415
        from urllib.request import urlopen  # noqa: PLC0415

        try:
            context = ssl.create_default_context(cafile=self.ca_bundle)
        except OSError as error:
            raise OptionError(
                f"get credentials for {self.role_arn}: cannot use {self.ca_bundle} ({error}), expected a file of PEM "
                "certificates. Check AWS_CA_BUNDLE.",
                field="ca_bundle",
            ) from error
        try:
            with urlopen(request, timeout=_LIMIT_S, context=context) as answer:  # noqa: S310 - see __call__
                return answer.read()
        except HTTPError as error:
            with error:
                code, said = _said(error.read())
            found = f"HTTP {error.code} {said}".strip()
            if error.code >= 500 or error.code == 429 or code in _PASSING:
                raise self._error(StorageError, found, "credentials", 1, retryable=True) from error
            raise self._error(AccessError, found, "credentials", 1) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._error(StorageError, f"no answer ({error})", "credentials", 1, retryable=True) from error

    def _credentials(self, answer: bytes) -> Credentials:
        try:
            found = _texts(answer)
            return Credentials(
                access_key_id=found["AccessKeyId"],
                secret_access_key=found["SecretAccessKey"],
                session_token=found["SessionToken"],
                expires_at=dt.datetime.fromisoformat(found["Expiration"]),
            )
        except (ET.ParseError, KeyError, ValueError) as error:
            raise self._error(StorageError, "an answer without credentials", "AccessKeyId and so on", 1) from error

    def _error(
        self, kind: type[StorageError], found: str, expected: str, attempts: int, *, retryable: bool | None = None
    ) -> StorageError:
        return kind(
            f"get credentials for {self.role_arn} at {self.endpoint_url}: {found}, expected {expected}. "
            "Check AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and AWS_ENDPOINT_URL_STS.",
            uri=self.endpoint_url,
            operation="get credentials",
            attempts=attempts,
            retryable=retryable,
        )


def _texts(answer: bytes) -> dict[str, str]:
    """Text of every element by its name; the answers have each name once where it matters."""
    root = ET.fromstring(answer)  # noqa: S314 - from the server that the credentials are trusted to
    return {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}


def _said(answer: bytes) -> tuple[str, str]:
    """The code of an error, and the code and its words together; empty where the answer is none of the service's."""
    try:
        found = _texts(answer)
    except ET.ParseError:
        return "", ""
    return found.get("Code", ""), " ".join(filter(None, (found.get("Code"), found.get("Message"))))
