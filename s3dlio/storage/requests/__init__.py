"""What happens between a verb and its requests: repeat, slow down, give up, hedge; and survive a fork."""

from s3dlio.storage.requests.policy import RequestStatistics

__all__ = ["RequestStatistics"]
