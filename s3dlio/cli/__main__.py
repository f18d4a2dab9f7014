"""``python -m s3dlio.cli``: the command where no script is installed."""

from s3dlio.cli.main import main

main()
