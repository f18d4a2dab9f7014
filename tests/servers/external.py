"""An S3 server that somebody else started: MinIO in CI, or any other, named by three variables."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .server import S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = {
    "endpoint_url": "S3DLIO_TEST_S3_ENDPOINT",
    "access_key": "S3DLIO_TEST_S3_ACCESS_KEY",
    "secret_key": "S3DLIO_TEST_S3_SECRET_KEY",
}


@dataclasses.dataclass
class ExternalServer(S3Server):
    """Never started nor stopped here. Every run makes buckets of its own and leaves them there."""

    name = "external"

    endpoint_url: str
    access_key: str
    secret_key: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ExternalServer | None:
        """The server that the variables name; None if none of them is set.

        Raises:
            ValueError: some of them are set, others are not.
        """
        given = {field: environ.get(name, "") for field, name in _VARIABLES.items()}
        if not any(given.values()):
            return None
        if missing := [_VARIABLES[field] for field, value in given.items() if not value]:
            raise ValueError(f"external S3 server: {', '.join(missing)} not set, expected all three. Set them or none.")
        return cls(**given)

    def start(self) -> None:
        self.container = self.new_container()

    def stop(self) -> None:
        """The server goes on."""
