"""Static keys, region and endpoint of a profile in the AWS credentials and configuration files.

The arrow engine's SDK reads these files by itself, the native engine does not; reading them here gives
both the same answer. Roles, single sign-on and ``credential_process`` need the arrow engine.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_profile"]

_FIELDS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint_url",
}


def read_profile(environ: Mapping[str, str]) -> dict[str, str]:
    """The fields that the profile ``AWS_PROFILE`` (or "default") sets; empty without such files.

    Raises:
        OptionError: a file that is not in the AWS format.
    """
    profile = environ.get("AWS_PROFILE") or "default"
    home = environ.get("HOME")
    folder = Path(home) / ".aws" if home else None
    found: dict[str, str] = {}
    for variable, name, section in (
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile),
    ):
        path = Path(environ[variable]) if environ.get(variable) else folder and folder / name
        if path is None or not path.is_file():
            continue
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(path.read_text())
        except (configparser.Error, UnicodeDecodeError) as error:
            raise OptionError(
                f"read {path}: not an AWS profile file ({type(error).__name__}), expected [profile] sections. "
                "Mend it, or name another one in " + variable + ".",
                field="AWS_PROFILE",
            ) from error
        if parser.has_section(section):
            found |= {_FIELDS[key]: value for key, value in parser.items(section) if key in _FIELDS and value}
    return found
