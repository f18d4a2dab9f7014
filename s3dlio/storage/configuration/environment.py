"""What the environment says about reaching a store: the one place that reads it for ``StorageOptions``.

Owns: the names of the variables, which of them wins, and which credentials are in use. Must not know: engines.

Guarantees: what the caller gives wins over the environment, and never mixes with it inside one set of credentials.
"""

from __future__ import annotations

import difflib
import os
import warnings
from typing import TYPE_CHECKING, Any

from s3dlio.errors import OptionError
from s3dlio.storage.configuration.connection_string import read_connection_string
from s3dlio.storage.configuration.container import amazon_host
from s3dlio.storage.configuration.container_role import ContainerRole
from s3dlio.storage.configuration.credentials import EnvironmentCredentials, NoCredentials
from s3dlio.storage.configuration.endpoints import expand, is_several, masked, rank_from
from s3dlio.storage.configuration.profile import read_profile
from s3dlio.storage.configuration.web_identity import WebIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3dlio.storage.configuration.profile import Profile

__all__ = ["ENVIRONMENT", "read_environment"]

ENVIRONMENT = {
    "S3DLIO_BACKEND": "engine for s3://, az:// and gs://: native (default) or arrow",
    "S3DLIO_USE_OPTIMIZED_HTTP": "false is another word for S3DLIO_BACKEND=arrow, true for native",
    "S3DLIO_ENDPOINT_URLS": "several servers with the same objects: URLs with commas between, a template, @file",
    "S3DLIO_BALANCE": "which of them a request goes to: round_robin (default), least_connections or rank",
    "S3DLIO_OP_LOG": "file that every operation of this process is logged to",
}
"""Every ``S3DLIO_*`` variable that is read anywhere, with its meaning; any other is warned about."""

_KEYS = ("access_key_id", "secret_access_key", "session_token")
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_CONTAINER = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
_AZURE: dict[str, tuple[str, ...]] = {
    "account_name": ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"),
    "account_key": ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
}
_AZURE_URL = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT_URL")


def read_environment(scheme: str, environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``StorageOptions`` for ``scheme``: those in ``given``, the rest as the environment says.

    Args:
        scheme: of the URI.
        environ: the variables; empty ones count as not set.
        given: the caller's, which win.

    Raises:
        OptionError: a variable with an illegal value; a profile that cannot be read.
    """
    _warn_of_unknown(environ)
    readers = {"s3": _s3, "az": _azure, "gs": _google}
    if scheme not in readers:  # local and memory stores have no engine, and no reason to fail over one
        return {name: value for name, value in given.items() if name != "profile"}
    given = {name: value for name, value in given.items() if value is not None or name not in _KEYS}
    found = {"backend": given.get("backend") or _backend(environ), **readers[scheme](environ, given)}
    found |= _several(environ, given)
    return {name: value for name, value in {**found, **given}.items() if name != "profile"}


def _s3(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    profile = read_profile(environ, given.get("profile"))
    settings = profile.settings
    found: dict[str, Any] = {
        "region": _first(environ, "AWS_REGION", "AWS_DEFAULT_REGION") or settings.get("region"),
        "endpoint_url": None if _has_endpoint(given) else _aws_url("S3", environ, profile),
        "ca_bundle": _first(environ, "AWS_CA_BUNDLE") or settings.get("ca_bundle"),
        "addressing": settings.get("addressing_style"),
        "request_checksum": _checksum(environ, settings),
    }
    attempts = _first(environ, "AWS_MAX_ATTEMPTS") or settings.get("max_attempts")
    if attempts is not None:
        if not attempts.isdecimal() or int(attempts) < 1:
            raise _illegal("AWS_MAX_ATTEMPTS", attempts, "a number, 1 or more")
        found["max_attempts"] = int(attempts)
    return {**found, **_s3_credentials(environ, given, profile, found)}


def _s3_credentials(
    environ: Mapping[str, str], given: Mapping[str, Any], profile: Profile, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys, and the provider that renews them, in the order of the AWS SDKs.

    Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers": the code's own, then the
    environment, web identity, the files, and at last the container or the machine, which the engines ask by themselves.
    """
    if given.get("anonymous") or given.get("credential_provider") or any(given.get(name) for name in _KEYS):
        return {}
    region = given.get("region") or found["region"] or "us-east-1"
    sts_url = _aws_url("STS", environ, profile) or f"https://{amazon_host('sts', region)}"
    ca_bundle = given.get("ca_bundle") or found["ca_bundle"]
    if not given.get("profile"):
        keys = {name: environ.get(f"AWS_{name.upper()}") or None for name in _KEYS}
        if keys["access_key_id"] or keys["secret_access_key"]:
            return {**keys, "credential_provider": EnvironmentCredentials() if environ is os.environ else None}
        token_file, role = _first(environ, "AWS_WEB_IDENTITY_TOKEN_FILE"), _first(environ, "AWS_ROLE_ARN")
        if token_file and role:
            session = _first(environ, "AWS_ROLE_SESSION_NAME") or "s3dlio"
            return {
                "credential_provider": WebIdentity(
                    token_file=token_file,
                    role_arn=role,
                    session_name=session,
                    endpoint_url=sts_url,
                    ca_bundle=ca_bundle,
                )
            }
    provider = profile.provider(sts_url, ca_bundle)
    if provider is not None:
        keys = {} if profile.static is None else {name: getattr(profile.static, name) for name in _KEYS}
        return {**keys, "credential_provider": provider}
    if given.get("profile"):
        raise OptionError(
            f"read profile {profile.name!r}: found no credentials in it, expected some. Name another profile.",
            field="profile",
        )
    if (url := _first(environ, "AWS_CONTAINER_CREDENTIALS_FULL_URI")) and not _first(environ, _CONTAINER):
        return {
            "credential_provider": ContainerRole(
                url=url,
                token_file=_first(environ, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
                token=_first(environ, "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            )
        }
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" and not _first(environ, _CONTAINER):
        return {"credential_provider": NoCredentials()}
    return {}


def _aws_url(service: str, environ: Mapping[str, str], profile: Profile) -> str | None:
    """The endpoint of an AWS service: the more special wins, and any variable over any profile."""
    ignored = _first(environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    if (ignored or profile.settings.get("ignore_configured_endpoint_urls", "")).lower() == "true":
        return None
    find = _url if service == "S3" else _first  # a provider looks at its own
    return find(environ, f"AWS_ENDPOINT_URL_{service}", "AWS_ENDPOINT_URL") or profile.endpoint_url(service.lower())


def _checksum(environ: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    variable = "AWS_REQUEST_CHECKSUM_CALCULATION"
    value = _first(environ, variable) or settings.get("request_checksum_calculation")
    if value is not None and value.lower() not in {"when_supported", "when_required"}:
        raise _illegal(variable, value, "when_supported or when_required")
    return value and value.lower()


def _azure(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("connection_string"):
        return {}
    credentials = ("account_key", "sas_token", "anonymous")
    said = _first(environ, "AZURE_STORAGE_CONNECTION_STRING")
    if said is not None:  # complete in itself: what else is set belongs to something else
        if not any(given.get(name) for name in credentials):
            return {"connection_string": said}
        parts = read_connection_string(said)
        if given.get("account_name") in {None, parts["account_name"]}:
            return {field: value for field, value in parts.items() if field not in credentials}
    found: dict[str, Any] = {field: _first(environ, *names) for field, names in _AZURE.items()}
    found["endpoint_url"] = None if _has_endpoint(given) else _url(environ, *_AZURE_URL)
    if any(given.get(name) for name in credentials):
        found["account_key"] = found["sas_token"] = None
    elif found["account_key"]:
        found["sas_token"] = None  # as Azure's own tools choose
    named, account = given.get("account_name"), found["account_name"]
    if named and account not in {None, named} and (found["account_key"] or found["sas_token"]):
        raise OptionError(
            f"environment: the credentials are those of account {account!r}, expected those of {named!r}. "
            "Pass account_key or sas_token for this account.",
            field="account_name",
        )
    return found


def _google(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"project_id": _first(environ, "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")}
    emulator = _first(environ, "STORAGE_EMULATOR_HOST")
    if emulator and not given.get("endpoint_url"):
        url = emulator if "://" in emulator else f"http://{emulator}"
        found["endpoint_url"] = _url({"STORAGE_EMULATOR_HOST": url}, "STORAGE_EMULATOR_HOST")
        found["anonymous"] = not given.get("service_account_file")  # as Google's libraries do
    elif not given.get("anonymous"):
        found["service_account_file"] = _first(environ, "GOOGLE_APPLICATION_CREDENTIALS")
    return found


def _backend(environ: Mapping[str, str]) -> str | None:
    variable = "S3DLIO_USE_OPTIMIZED_HTTP"
    switch = _first(environ, variable)
    if switch is not None and switch.lower() not in _SWITCH:
        raise _illegal(variable, switch, "true or false")
    other = None if switch is None else ("native" if _SWITCH[switch.lower()] else "arrow")
    backend = _first(environ, "S3DLIO_BACKEND")
    if backend not in {None, "native", "arrow"}:
        raise _illegal("S3DLIO_BACKEND", str(backend), "native or arrow")
    return backend or other


def _several(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Several endpoints, where the caller does not name any; one endpoint of the environment is none then."""
    found: dict[str, Any] = {}
    if given.get("endpoint_urls"):
        found["endpoint_url"] = None
    elif not given.get("endpoint_url") and (urls := _first(environ, "S3DLIO_ENDPOINT_URLS")):
        found["endpoint_url"] = None
        try:
            found["endpoint_urls"] = expand(urls)
        except OptionError as error:
            raise OptionError(f"environment: S3DLIO_ENDPOINT_URLS: {error}", field="S3DLIO_ENDPOINT_URLS") from error
    balance = _first(environ, "S3DLIO_BALANCE")
    if balance:
        if balance not in {"round_robin", "least_connections", "rank"}:
            raise _illegal("S3DLIO_BALANCE", balance, "round_robin, least_connections or rank")
        found["balance"] = balance
    if given.get("balance", balance) == "rank":
        found["endpoint_rank"] = rank_from(environ)
    return found


def _has_endpoint(given: Mapping[str, Any]) -> bool:
    return bool(given.get("endpoint_url") or given.get("endpoint_urls"))


def _url(environ: Mapping[str, str], *names: str) -> str | None:
    """As ``_first``, of a URL or several; ``StorageOptions`` looks at them more closely."""
    name = next((name for name in names if environ.get(name)), None)
    if name is None:
        return None
    url = environ[name]
    if not is_several(url) and not url.startswith(("http://", "https://")):
        raise _illegal(name, masked(url), "http://host:port or https://host")
    return url


def _first(environ: Mapping[str, str], *names: str) -> str | None:
    """The first of the variables that is set and not empty."""
    return next((environ[name] for name in names if environ.get(name)), None)


def _illegal(variable: str, value: str, legal: str) -> OptionError:
    return OptionError(f"environment: {variable} is {value!r}, expected {legal}.", field=variable)


def _warn_of_unknown(environ: Mapping[str, str]) -> None:
    for name in sorted(name for name in environ if name.startswith("S3DLIO_")):
        if name not in ENVIRONMENT:
            near = difflib.get_close_matches(name, ENVIRONMENT, 1, cutoff=0) or list(ENVIRONMENT)
            warnings.warn(f"environment: {name} is not read by s3dlio. The nearest name is {near[0]}.", stacklevel=5)
