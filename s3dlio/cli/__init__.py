"""The command line: the only floor that prints or exits."""

from s3dlio.cli.main import main

__all__ = ["main"]
