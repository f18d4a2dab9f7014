"""A profile of the AWS credentials and configuration files.

The arrow engine's SDK reads these files by itself, the native engine does not; reading them here gives both the
same answer, from the same rules. Static keys, ``credential_process`` and web identities are understood. For single
sign-on and assumed roles the ``aws`` command is the one that knows; the error says how to let it.

Owns: the files' format. Must not know: stores, engines, variables but those that name the files.
Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files", "Process credential provider".
"""

from __future__ import annotations

import configparser
import dataclasses
import datetime as dt
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.errors import AccessError, OptionError
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.configuration.web_identity import WebIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3dlio.storage.configuration.credentials import CredentialProvider

__all__ = ["Profile", "ProfileCredentials", "read_profile"]

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_PROCESS_LIMIT_S = 60.0
"""Seconds for a ``credential_process``, which may ask a person to touch a key."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """One profile, both files together. ``repr`` shows no values."""

    name: str
    config_file: str | None
    credentials_file: str | None
    settings: Mapping[str, str]
    """By the names of the files."""
    services: Mapping[str, str]
    """Endpoint URLs of its ``services`` section, by service."""

    @property
    def static(self) -> Credentials | None:
        """Keys that stand in the files."""
        key, secret = (self.settings.get(name) for name in _KEYS[:2])
        if not key or not secret:
            return None
        return Credentials(
            access_key_id=key, secret_access_key=secret, session_token=self.settings.get("aws_session_token")
        )

    def endpoint_url(self, service: str) -> str | None:
        """Of ``service`` (s3, sts): its own, or the one for all."""
        return self.services.get(service) or self.settings.get("endpoint_url")

    def provider(self, sts_url: str, ca_bundle: str | None) -> CredentialProvider | None:
        """What gives the credentials of this profile; None if it has none.

        Args:
            sts_url: of the security token service, for a web identity.
            ca_bundle: as in ``StorageOptions``.

        Raises:
            OptionError: they come from single sign-on or an assumed role.
        """
        if "web_identity_token_file" in self.settings and "role_arn" in self.settings:
            return WebIdentity(
                token_file=self.settings["web_identity_token_file"],
                role_arn=self.settings["role_arn"],
                session_name=self.settings.get("role_session_name", "s3dlio"),
                endpoint_url=sts_url,
                ca_bundle=ca_bundle,
            )
        for setting in ("role_arn", "sso_session", "sso_start_url", "login_session"):
            if setting in self.settings:
                raise OptionError(
                    f"read profile {self.name!r}: found {setting}, expected keys, credential_process or a web "
                    "identity. "
                    "Let the aws command get the credentials: use another profile with the line "
                    f"'credential_process = aws configure export-credentials --profile {self.name}'.",
                    field="profile",
                )
        if self.static is None and "credential_process" not in self.settings:
            return None
        return ProfileCredentials(self.name, self.config_file, self.credentials_file)

    def __repr__(self) -> str:
        return f"Profile({self.name!r}, settings={sorted(self.settings)})"


@dataclasses.dataclass(frozen=True, slots=True)
class ProfileCredentials:
    """A credential provider: every call reads the files anew, and runs the ``credential_process`` if there is one."""

    name: str
    config_file: str | None
    credentials_file: str | None

    def __call__(self) -> Credentials | None:
        """The credentials that the files hold, or their process gives, now.

        Raises:
            OptionError: the files cannot be read.
            AccessError: the process failed.
        """
        profile = _read(self.name, self.config_file, self.credentials_file)
        if profile.static is not None:
            return profile.static
        command = profile.settings.get("credential_process")
        return None if command is None else _ask_process(self.name, command)


def read_profile(environ: Mapping[str, str], name: str | None = None) -> Profile:
    """The profile ``name``, ``AWS_PROFILE`` or "default"; empty if nobody named it and it is not there.

    Args:
        environ: for ``AWS_PROFILE``, ``AWS_CONFIG_FILE``, ``AWS_SHARED_CREDENTIALS_FILE`` and ``HOME``.
        name: of the profile.

    Raises:
        OptionError: a file that is not in the AWS format; a profile that was named and is in none of them.
    """
    named = name or environ.get("AWS_PROFILE")
    home = environ.get("HOME")

    def file(variable: str, default: str) -> str | None:
        given = environ.get(variable) or (home and f"~/.aws/{default}")
        return given.replace("~", home, 1) if given and home and given.startswith("~/") else given or None

    files = file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    profile = _read(named or "default", *files)
    if named and named != "default" and not profile.settings:
        raise OptionError(
            f"read profile {named!r}: it is neither in {files[0]} nor in {files[1]}, expected one that is. "
            "Check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE.",
            field="profile",
        )
    return profile


def _read(name: str, config_file: str | None, credentials_file: str | None) -> Profile:
    sections = _sections(config_file, "AWS_CONFIG_FILE")
    plain = sections.get("default", {}) if name == "default" else {}
    settings = {**plain, **sections.get(f"profile {name}", {})}
    secret = _sections(credentials_file, "AWS_SHARED_CREDENTIALS_FILE").get(name, {})
    if "aws_access_key_id" in secret:
        for key in _KEYS:  # a token there belongs to other keys
            settings.pop(key, None)
    services = {
        service: endpoint
        for service, lines in sections.get(f"services {settings.get('services', '')}", {}).items()
        if (endpoint := _nested(lines).get("endpoint_url"))
    }
    return Profile(name, config_file, credentials_file, {**settings, **_nested_s3(settings), **secret}, services)


def _sections(file: str | None, variable: str) -> dict[str, dict[str, str]]:
    if file is None or not os.path.isfile(file):  # noqa: PTH113 - a fifth of the time, in every call that takes a URI
        return {}
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(Path(file).read_text(encoding="utf-8"))
    except (configparser.Error, OSError, UnicodeError) as error:
        raise OptionError(
            f"read {file}: not an AWS profile file ({type(error).__name__}), expected [profile] sections. "
            f"Mend it, or name another one in {variable}.",
            field="profile",
        ) from error
    return {
        " ".join(section.replace('"', "").split()): {key: value for key, value in parser.items(section) if value}
        for section in parser.sections()
    }


def _nested(lines: str) -> dict[str, str]:
    """The settings in the indented lines below one, such as ``s3 =``."""
    pairs = (line.partition("=") for line in lines.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _nested_s3(settings: Mapping[str, str]) -> dict[str, str]:
    style = _nested(settings.get("s3", "")).get("addressing_style")
    return {"addressing_style": style} if style in {"path", "virtual"} else {}


def _ask_process(name: str, command: str) -> Credentials:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(
            f"read profile {name!r}: its credential_process cannot be split into words ({error}), expected a command. "
            "Mend the quotes.",
            field="profile",
        ) from error

    def failed(why: str) -> AccessError:
        return AccessError(
            f"get credentials of profile {name!r}: its credential_process {words[0]!r} {why}, expected "
            "credentials as JSON, version 1. Run it in a shell.",
            operation="get credentials",
            attempts=0,
        )

    try:
        # The user's own command line, from the user's own file.
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, check=False, timeout=_PROCESS_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise failed(f"took longer than {_PROCESS_LIMIT_S:.0f} s") from error
    except OSError as error:
        raise failed(f"failed ({error})") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise failed(f"ended with {done.returncode} ({said[-1] if said else 'no words'})")
    try:
        said = json.loads(done.stdout)
        until = said.get("Expiration")
        if said["Version"] != 1:
            raise ValueError(said["Version"])  # noqa: TRY301 - one sentence for all that is not the format
        return Credentials(
            access_key_id=said["AccessKeyId"],
            secret_access_key=said["SecretAccessKey"],
            session_token=said.get("SessionToken"),
            expires_at=None if until is None else dt.datetime.fromisoformat(until),
        )
    except OptionError as error:  # shows no key
        raise failed(f"gave unusable {str(error).partition(',')[0]}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not "from": the parser's error holds the answer, and so the keys.
        raise failed("said something else") from None
