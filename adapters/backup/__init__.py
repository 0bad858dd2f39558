"""Copy databases at one instant while they are written, and keep files in one proven archive."""

from adapters.backup.archive import (
    MANIFEST,
    Contents,
    pack_archive,
    read_contents,
    unpack_archive,
)
from adapters.backup.databases import copy_at_one_instant

__all__ = [
    "MANIFEST",
    "Contents",
    "copy_at_one_instant",
    "pack_archive",
    "read_contents",
    "unpack_archive",
]
