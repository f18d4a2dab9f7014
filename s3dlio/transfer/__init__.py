"""Many objects, whole trees and file objects: what people do with stores from a program or a shell."""

__all__ = ()
