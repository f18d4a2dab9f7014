"""How to reach a store: endpoint, credentials, deadlines, engine.

Owns: the fields, their legal values, and which of them exclude each other. Must not know: the engines' own option
names, nor the variables' (``storage.configuration.environment``). Secrets never show in ``repr`` or errors.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import os
import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from s3dlio.errors import OptionError
from s3dlio.storage.configuration.connection_string import read_connection_string
from s3dlio.storage.configuration.credentials import check_characters
from s3dlio.storage.configuration.endpoints import expand, is_several, masked
from s3dlio.storage.configuration.environment import ENVIRONMENT, read_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from s3dlio.storage.configuration.credentials import CredentialProvider

__all__ = ["ENVIRONMENT", "StorageOptions"]

_SECRETS = ("access_key_id", "secret_access_key", "session_token", "account_key", "sas_token", "connection_string")
_TEXTS = ("region", "account_name", "project_id", "profile", *_SECRETS)
_CREDENTIALS = {"account_key", "sas_token"}
_FILES = ("ca_bundle", "service_account_file")
_SWITCHES = ("anonymous", "allow_http", "direct_fallback")
_SECONDS = ("connect_timeout_s", "read_timeout_s", "retry_deadline_s")
_LONGEST_S = 365 * 24 * 3600
"""A year: more than any job waits, and less than the engines' clocks can hold."""

_CHOICES = {
    "backend": ("native", "arrow"),
    "addressing": ("path", "virtual"),
    "balance": ("round_robin", "least_connections", "rank"),
    "request_checksum": ("when_supported", "when_required"),
}
_MAY_BE_NONE = {"backend", "addressing", "request_checksum", "allow_http"}


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
    credentials_expire_at: dt.datetime | None = None
    """Aware time from which on these S3 keys are refused; ``credential_provider`` is asked a minute before. None: they
    do not expire, or nobody says when."""
    anonymous: bool = False
    """Send unsigned requests, for public buckets. Wins over all credentials."""
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
    """File of PEM certificates to trust: on the native engine besides the system's, on arrow instead of them. Arrow has
    it for ``s3://`` only; ``SSL_CERT_FILE`` is for all, and must be set before Python starts. None: the system's."""
    profile: str | None = None
    """Profile in the AWS credentials and configuration files, instead of all other credentials of the environment. For
    a ``storage_options`` dict and ``from_env``, which read the files; never in options themselves."""
    service_account_file: str | None = None
    """Google credentials, a JSON file (service account or what ``gcloud`` writes). None: what the machine offers."""
    project_id: str | None = None
    """Google project that new buckets belong to."""
    credential_provider: CredentialProvider | None = None
    """Called, from any thread, for S3 credentials when there are no keys yet and when the ones in use expire. Given to
    ``from_env`` it wins over the environment's. To reach other processes it must pickle: a function of a module."""
    request_checksum: Literal["when_supported", "when_required"] | None = None
    """Whether uploads to S3 carry a checksum that the server verifies. None: at AWS, and not at other
    endpoints, some of which refuse it."""
    endpoint_urls: tuple[str, ...] = ()
    """Base URLs of several servers that hold the same objects; instead of ``endpoint_url``. Templates, lists with
    commas and ``@file`` are expanded (``storage.configuration.endpoints``)."""
    balance: Literal["round_robin", "least_connections", "rank"] = "round_robin"
    """Which of ``endpoint_urls`` a request goes to. "rank": always the one of this process's rank."""
    endpoint_rank: int | None = None
    """This process's number for "rank". None: ``from_env`` takes what the launcher set (``RANK``,
    ``SLURM_PROCID``, ...)."""
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
    """Requests made for one verb, the first included. More ride out longer disturbances and delay errors."""
    retry_deadline_s: float = 12.0
    """Seconds after which no further attempt is started."""

    def __post_init__(self) -> None:
        self._check_types()
        if self.connection_string is not None:
            self._fill(read_connection_string(self.connection_string))
        for field in _TEXTS:
            if field != "connection_string":  # may have line breaks between its parts, which count by now
                check_characters(f"storage options: {field}", field, getattr(self, field) or "")
        self._check_endpoints()
        if self.region is not None and re.fullmatch(r"[\w.-]*", self.region, re.ASCII) is None:  # part of a host's name
            raise _illegal("region", self.region, "a name such as us-east-1")
        if bool(self.access_key_id) != bool(self.secret_access_key):
            missing = "secret_access_key" if self.access_key_id else "access_key_id"
            raise OptionError(
                f"storage options: {missing} is missing, expected both halves of the credentials. "
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither.",
                field=missing,
            )
        if self.session_token and not self.access_key_id:
            raise OptionError(
                "storage options: got session_token without keys, expected the keys that it belongs to. "
                "Pass access_key_id and secret_access_key, too.",
                field="session_token",
            )
        if self.account_key and self.sas_token:
            raise OptionError(
                "storage options: got account_key and sas_token, expected one of them. Leave out one.",
                field="sas_token",
            )
        if self.profile is not None:
            raise _illegal("profile", self.profile, "None in complete options: StorageOptions.from_env reads profiles")

    def _fill(self, said: dict[str, str]) -> None:
        """Take from a connection string what the options leave open."""
        if self.account_key or self.sas_token:
            said = {field: said[field] for field in said if field not in _CREDENTIALS}
        elif "account_key" in said:
            said.pop("sas_token", None)
        if self.endpoint_urls:
            said.pop("endpoint_url", None)
        # A signature goes to the string's own endpoint, if there is one: the account's name may be a guess from it.
        what = "key" if "account_key" in said else "signature" if "endpoint_url" not in said else ""
        if what and not said.keys().isdisjoint(_CREDENTIALS) and self.account_name not in {None, said["account_name"]}:
            raise OptionError(
                f"storage options: connection_string has the {what} of account {said['account_name']!r}, expected that "
                f"of {self.account_name!r}. Leave out account_name, or pass account_key or sas_token.",
                field="account_name",
            )
        for field, value in said.items():
            if getattr(self, field) is None:
                self._set(field, value)

    def _check_types(self) -> None:
        for field in _TEXTS:
            if not isinstance(getattr(self, field), str | None):
                raise _illegal(field, getattr(self, field), "text")
        for field in _FILES:
            value = getattr(self, field)
            if isinstance(value, os.PathLike):
                self._set(field, os.fspath(value))
            elif not isinstance(value, str | None):
                raise _illegal(field, value, "a path")
            elif value is not None and value.lstrip().startswith(("{", "-----BEGIN")):
                raise _illegal(field, "the content of a file", "its path")
        for field in _SWITCHES:
            value = getattr(self, field)
            if not isinstance(value, bool) and not (value is None and field in _MAY_BE_NONE):
                raise _illegal(field, value, "True or False")
        for field, legal in _CHOICES.items():
            value = getattr(self, field)
            if value not in legal and not (value is None and field in _MAY_BE_NONE):
                raise _illegal(field, value, f"one of {', '.join(legal)}")
        for field in _SECONDS:
            if not _is_number(getattr(self, field)) or not 0 < getattr(self, field) <= _LONGEST_S:
                raise _illegal(field, getattr(self, field), "a positive number of seconds, a year at most")
        if not isinstance(self.max_attempts, int) or isinstance(self.max_attempts, bool) or self.max_attempts < 1:
            raise _illegal("max_attempts", self.max_attempts, "a whole number, 1 or more")
        percentile = self.hedge_percentile
        if percentile is not None and not (_is_number(percentile) and 0 < percentile < 100):
            raise _illegal("hedge_percentile", percentile, "a number between 0 and 100")
        rank = self.endpoint_rank
        if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 0):
            raise _illegal("endpoint_rank", rank, "a whole number, 0 or more")
        until = self.credentials_expire_at
        if until is not None and (not isinstance(until, dt.datetime) or until.tzinfo is None):
            raise _illegal("credentials_expire_at", until, "a datetime with a time zone")
        if self.credential_provider is not None and not callable(self.credential_provider):
            raise _illegal("credential_provider", self.credential_provider, "a function that returns Credentials")

    def _check_endpoints(self) -> None:
        if self.endpoint_url is not None and not isinstance(self.endpoint_url, str):
            raise _illegal("endpoint_url", self.endpoint_url, "http://host:port or https://host")
        if self.endpoint_urls:
            self._set("endpoint_urls", expand(self.endpoint_urls))
            if self.endpoint_url is not None:
                raise OptionError(
                    f"storage options: got endpoint_url {masked(self.endpoint_url)!r} and endpoint_urls, expected one "
                    "of them. Put all servers into endpoint_urls.",
                    field="endpoint_urls",
                )
        elif self.endpoint_url is not None and is_several(self.endpoint_url):
            self._set("endpoint_urls", expand(self.endpoint_url))
            self._set("endpoint_url", None)
        else:
            self._set("endpoint_urls", ())
        for field, url in [
            ("endpoint_url", self.endpoint_url),
            *(("endpoint_urls", url) for url in self.endpoint_urls),
        ]:
            if url is None:
                continue
            _check_url(field, url)
            if url.startswith("http://") and self.allow_http is False:
                raise _illegal(field, url, "https:// because allow_http is False")

    def _set(self, field: str, value: object) -> None:
        """Set a field while the object is made."""
        object.__setattr__(self, field, value)

    @classmethod
    def from_env(cls, scheme: str, environ: Mapping[str, str] = os.environ, /, **overrides: Any) -> Self:
        """The options that the environment gives for ``scheme``: ``docs/reference/environment.md`` lists it all.

        Reads the AWS files for ``s3``, and makes no request.

        Args:
            scheme: of the URI.
            environ: the variables; empty ones count as not set.
            overrides: fields that win over the environment.

        Raises:
            OptionError: an override of an unknown name, an illegal value, a profile that cannot be read.
        """
        _check_names(overrides)
        return cls(**read_environment(scheme, environ, overrides))

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
                shown.append(f"{field.name}={_shown(field.name, value)}")
        return f"StorageOptions({', '.join(shown)})"


def _shown(field: str, value: object) -> str:
    """``value`` for a message. Of a function, which may hold secrets as its arguments, only the name."""
    if field in _SECRETS:
        return "***"
    if field == "credential_provider":
        return getattr(value, "__qualname__", type(value).__name__)
    return repr(value)


def _check_url(field: str, url: str) -> None:
    """Raise OptionError unless ``url`` is the base of a server's URLs, and holds no secret."""
    legal = "http://host:port or https://host"
    check_characters(f"storage options: {field}", field, url)  # ``urlsplit`` drops them
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for what is no port
    except ValueError:
        # Not "from": the error quotes what it takes for a port, which may be a part of a password.
        raise _illegal(field, masked(url), legal) from None
    if not url.startswith(("http://", "https://")) or not parts.hostname or port == 0:
        raise _illegal(field, masked(url), legal)
    if "@" in parts.netloc:
        raise _illegal(field, "a URL with a name in it", "one without: pass the credentials as options")
    if "?" in url or "#" in url:
        raise _illegal(field, masked(url), "a URL without a query: pass a signature as sas_token")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _illegal(field: str, value: object, legal: str) -> OptionError:
    return OptionError(f"storage options: {field} is {_shown(field, value)}, expected {legal}.", field=field)


def _check_names(overrides: Mapping[str, object]) -> None:
    for name in overrides:
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise OptionError(
                f"storage options: unknown option {name!r}, expected one of {', '.join(_NAMES)}.{hint}", field=name
            )


_NAMES = tuple(field.name for field in dataclasses.fields(StorageOptions))
