"""What a transfer that ended early may leave at its target, in one warning: only where a request hung on to the end.

Must not know: how an upload is aborted, and when one cannot be (``moves``).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["warn_of"]

_REMEDY = {
    "s3": "List them by `aws s3api list-multipart-uploads --bucket {container}` and remove them by "
    "`aws s3api abort-multipart-upload`, or by a lifecycle rule (AbortIncompleteMultipartUpload).",
    "gs": "A lifecycle rule of the bucket {container} (AbortIncompleteMultipartUpload) removes them.",
    "az": "Azure removes them after a week, or when the blob is written again.",
}
"""How parts that belong to no object go away; keys are schemes."""

_NAMED = 3
"""Targets that the message names; more parts are under way only with a budget of memory above the conveyor's."""


def warn_of(operation: str, targets: Sequence[str], scheme: str, error: BaseException) -> None:
    """Say what may stay of ``targets``, whose uploads a request still holds. Where warnings are errors, as a note.

    Args:
        operation: verb of the transfer.
        targets: their URIs; at least one.
        scheme: of the targets; empty on a filesystem of the caller's own.
        error: what ends the transfer, which this must not hide.
    """
    message = _message(operation, targets, scheme)
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    except RuntimeWarning:
        error.add_note(message)


def _message(operation: str, targets: Sequence[str], scheme: str) -> str:
    names = ", ".join(targets[:_NAMED]) + (f" and {len(targets) - _NAMED} more" if len(targets) > _NAMED else "")
    if scheme in {"file", "direct"}:
        return (
            f"{operation} {names}: a write was still under way at the end; its temporary file may stay. "
            "Remove the files .s3dlio-*.tmp from the directory of the target."
        )
    remedy = _REMEDY.get(scheme, "Look for what belongs to no object there.")
    if "{" in remedy:
        remedy = remedy.format(container=Uri.parse(targets[0]).container)
    return (
        f"{operation} {names}: a request was still under way at the end; the object may yet appear, whole, or parts of "
        f"it stay on the server. {remedy}"
    )
