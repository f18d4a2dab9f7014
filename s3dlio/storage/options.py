"""How to reach a store: endpoint, credentials, deadlines, engine.

Owns: the one reading of the environment. Must not know: the engines' own option names.
Secrets never show in ``repr``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings
from typing import TYPE_CHECKING, Literal

from s3dlio.errors import OptionError
from s3dlio.storage.profile import read_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from s3dlio.storage.credentials import Credentials

__all__ = ["ENVIRONMENT", "StorageOptions"]

ENVIRONMENT = {"S3DLIO_BACKEND": "engine for s3://, az:// and gs://: native (default) or arrow"}
"""Every ``S3DLIO_*`` variable that is read anywhere, with its meaning; any other is warned about."""

_AWS: dict[str, tuple[str, ...]] = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}
_AZURE: dict[str, tuple[str, ...]] = {
    "account_name": ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"),
    "account_key": ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
    "connection_string": ("AZURE_STORAGE_CONNECTION_STRING",),
    "endpoint_url": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT_URL"),
}
_GOOGLE: dict[str, tuple[str, ...]] = {"endpoint_url": ("STORAGE_EMULATOR_HOST",)}
_VARIABLES = {"s3": _AWS, "az": _AZURE, "gs": _GOOGLE}
_SECRETS = ("access_key_id", "secret_access_key", "session_token", "account_key", "sas_token", "connection_string")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StorageOptions:
    """How a store is reached. Local and memory stores ignore all of it.

    Raises:
        OptionError: an illegal value, or a combination that cannot work.
    """

    backend: Literal["native", "arrow"] | None = None
    """Engine. None: ``native``, except in a process forked from one that had used it."""
    endpoint_url: str | None = None
    """Base URL of the server. None: the provider's own. For Azure ending in the account where it is part
    of the path, as in ``http://127.0.0.1:10000/devstoreaccount1``."""
    region: str | None = None
    """S3 region. None: ``us-east-1``."""
    access_key_id: str | None = None
    """S3 key. None, with no secret: what the machine offers (instance or container role)."""
    secret_access_key: str | None = None
    """S3 secret. Given together with ``access_key_id`` or not at all."""
    session_token: str | None = None
    """S3 token of temporary credentials."""
    anonymous: bool = False
    """Send unsigned requests, for public buckets."""
    allow_http: bool | None = None
    """Allow plain HTTP. None: when ``endpoint_url`` says ``http://``."""
    addressing: Literal["path", "virtual"] | None = None
    """Bucket in the path or in the host name. None: path with an ``endpoint_url``, virtual at AWS."""
    account_name: str | None = None
    """Azure storage account."""
    account_key: str | None = None
    """Azure shared key."""
    sas_token: str | None = None
    """Azure shared access signature, instead of a key."""
    connection_string: str | None = None
    """Azure connection string; fills account, key, SAS and endpoint where they are not given."""
    ca_bundle: str | None = None
    """File of PEM certificates to trust, besides or instead of the system's. None: the system's."""
    profile: str | None = None
    """Profile in the AWS credentials and configuration files. None: ``AWS_PROFILE``, then "default"."""
    service_account_file: str | None = None
    """Google service account, a JSON file. None: what the machine offers."""
    project_id: str | None = None
    """Google project that new buckets belong to."""
    credential_provider: Callable[[], Credentials] | None = None
    """Called for S3 credentials when there are none yet and when the ones in use expire. Wins over static keys.
    To reach other processes it must pickle: a function of a module."""
    request_checksum: Literal["when_supported", "when_required"] | None = None
    """Whether uploads to S3 carry a checksum that the server verifies. None: at AWS, and not at other
    endpoints, some of which refuse it."""
    endpoint_urls: tuple[str, ...] = ()
    """Base URLs of several servers that hold the same objects; instead of ``endpoint_url``."""
    balance: Literal["round_robin", "least_connections", "rank"] = "round_robin"
    """Which of ``endpoint_urls`` a request goes to. "rank": always the one of this process's rank."""
    direct_fallback: bool = False
    """Let ``direct://`` go through the page cache where the filesystem refuses O_DIRECT."""
    hedge_percentile: float | None = None
    """Send a read again, and take the first answer, when it has taken longer than this share (0 < p < 100) of the
    recent reads of its size. None: never. 95 costs about 5 % more requests and cuts the tail of slow ones."""
    connect_timeout_s: float = 5.0
    """Seconds for one attempt to connect."""
    read_timeout_s: float = 30.0
    """Seconds without a single byte after which a request is given up. No limit for a request that moves."""
    max_attempts: int = 6
    """Requests made for one verb, the first included; the arrow engine makes 3 at most. More ride out longer
    disturbances and delay errors."""
    retry_deadline_s: float = 12.0
    """Seconds after which no further attempt is started. The arrow engine has no such limit."""

    def __post_init__(self) -> None:
        if self.backend not in {None, "native", "arrow"}:
            raise _illegal("backend", self.backend, "'native' or 'arrow'")
        if self.addressing not in {None, "path", "virtual"}:
            raise _illegal("addressing", self.addressing, "'path' or 'virtual'")
        for field in ("connect_timeout_s", "read_timeout_s", "retry_deadline_s", "max_attempts"):
            if not getattr(self, field) > 0:
                raise _illegal(field, getattr(self, field), "a positive number")
        if bool(self.access_key_id) != bool(self.secret_access_key):
            missing = "secret_access_key" if self.access_key_id else "access_key_id"
            raise OptionError(
                f"storage options: {missing} is missing, expected both halves of the credentials. "
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither.",
                field=missing,
            )
        url = self.endpoint_url
        if url is not None and not url.startswith(("http://", "https://")):
            raise _illegal("endpoint_url", url, "http://host:port or https://host")
        if url is not None and url.startswith("http://") and self.allow_http is False:
            raise _illegal("endpoint_url", url, "https:// because allow_http is False")
        if self.connection_string is not None:
            self._fill_from(self.connection_string)

    @classmethod
    def from_env(cls, scheme: str, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """The options that the environment gives for ``scheme``.

        ``s3``: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION`` or
        ``AWS_DEFAULT_REGION``, ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``; where no key is set, the static
        keys, region and endpoint of the ``AWS_PROFILE`` in the AWS credentials and configuration files.
        ``az``: ``AZURE_STORAGE_ACCOUNT``, ``AZURE_STORAGE_KEY``, ``AZURE_STORAGE_SAS_TOKEN``,
        ``AZURE_STORAGE_CONNECTION_STRING``, ``AZURE_STORAGE_ENDPOINT``. All: ``S3DLIO_BACKEND``.

        Args:
            scheme: of the URI.
            environ: the variables; empty ones count as not set.
            overrides: fields that win over the environment.

        Raises:
            OptionError: an override of an unknown name, or an illegal value.
        """
        _check_names(overrides)
        _warn_of_unknown(environ)
        found: dict[str, Any] = {"backend": environ.get("S3DLIO_BACKEND") or None}
        if scheme in _VARIABLES:
            for field, names in _VARIABLES[scheme].items():
                found[field] = next((environ[name] for name in names if environ.get(name)), None)
        else:
            found = {}  # local and memory stores have no engine, and no reason to fail over one
        given = {**found, **overrides}
        if scheme == "s3" and not (given["access_key_id"] or given["secret_access_key"] or given.get("anonymous")):
            profile = read_profile(environ)
            given.update({name: value for name, value in profile.items() if given.get(name) is None})
        return cls(**given)

    def replace(self, **overrides: Any) -> Self:
        """A copy with other values in the named fields.

        Raises:
            OptionError: an unknown name, or an illegal value.
        """
        _check_names(overrides)
        return dataclasses.replace(self, **overrides)

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name}={'***' if field.name in _SECRETS else value!r}")
        return f"StorageOptions({', '.join(shown)})"

    def _fill_from(self, connection_string: str) -> None:
        parts = dict(part.partition("=")[::2] for part in connection_string.split(";") if part)
        if "AccountName" not in parts and "BlobEndpoint" not in parts:
            raise OptionError(
                "storage options: connection_string has neither AccountName nor BlobEndpoint, expected "
                "AccountName=...;AccountKey=...;BlobEndpoint=.... Copy it again from the portal.",
                field="connection_string",
            )
        filled = {
            "account_name": parts.get("AccountName"),
            "account_key": parts.get("AccountKey"),
            "sas_token": parts.get("SharedAccessSignature"),
            "endpoint_url": parts.get("BlobEndpoint"),
        }
        for field, value in filled.items():
            if getattr(self, field) is None and value is not None:
                object.__setattr__(self, field, value)


def _illegal(field: str, value: object, legal: str) -> OptionError:
    return OptionError(f"storage options: {field} is {value!r}, expected {legal}.", field=field)


def _check_names(overrides: Mapping[str, object]) -> None:
    names = [field.name for field in dataclasses.fields(StorageOptions)]
    for name in overrides:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise OptionError(
                f"storage options: unknown option {name!r}, expected one of {', '.join(names)}.{hint}", field=name
            )


def _warn_of_unknown(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith("S3DLIO_") and name not in ENVIRONMENT:
            near = difflib.get_close_matches(name, ENVIRONMENT, 1, cutoff=0) or list(ENVIRONMENT)
            warnings.warn(f"environment: {name} is not read by s3dlio. The nearest name is {near[0]}.", stacklevel=4)
