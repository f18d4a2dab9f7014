"""s3dlio."""
