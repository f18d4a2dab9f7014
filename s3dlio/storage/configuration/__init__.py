"""How to reach a store: options, the environment's variables, profiles, credentials."""

from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.configuration.options import StorageOptions

__all__ = ["Credentials", "StorageOptions"]
