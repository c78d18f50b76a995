"""Where a fit's features come from: made of stored thumbnails, or stored as the embeddings of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamcluster.learn.embedding import EMBEDDING_VERSION
from streamcluster.learn.features import FeatureSpace, Rows, part_energies
from streamcluster.store.collection import Collection
from streamcluster.store.embeddings import Embeddings


class FeatureRows(Protocol):
    """What a fit needs to know of its features, and how it gets them: `read` some rows, then `compute`."""

    @property
    def shown(self) -> str:
        """What a person calls the features."""

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Sizes of the parts that are measured in different units; together the features of a picture."""

    @property
    def blocks(self) -> list[slice]:
        """Rows that are stored together."""

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest block."""

    @property
    def temporary_bytes(self) -> int:
        """What `compute` takes at most beside the rows."""

    def part_energies(self, texture_weight: float) -> tuple[float, ...]:
        """Return the mean energy that each part is to have."""

    def recipe(self, texture_weight: float) -> dict[str, Any]:
        """Return all that the features depend on, beside the pictures."""

    def read(self, rows: slice) -> NDArray[Any]:
        """Return what is stored of these rows."""

    def compute(self, stored: NDArray[Any]) -> Rows:
        """Return the float32 (n, F) features of what was read; it may be the same memory."""


@dataclass(frozen=True, slots=True)
class ThumbnailRows:
    """Features that are made of thumbnails."""

    collection: Collection
    space: FeatureSpace

    @property
    def shown(self) -> str:
        """The name of the space."""
        return self.space.name

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Sizes of the space's parts."""
        return self.space.part_sizes(self.collection.pointer.image_size)

    @property
    def blocks(self) -> list[slice]:
        """Blocks of thumbnails."""
        return self.collection.blocks

    @property
    def block_bytes(self) -> int:
        """Bytes of a block of thumbnails."""
        return self.collection.pointer.block_rows * self.collection.thumbnail_bytes

    @property
    def temporary_bytes(self) -> int:
        """What the space takes."""
        return self.space.temporary_bytes(self.collection.pointer.image_size)

    def part_energies(self, texture_weight: float) -> tuple[float, ...]:
        """Return the energies of the space's parts."""
        return part_energies(self.space, self.collection.pointer.image_size, texture_weight)

    def recipe(self, texture_weight: float) -> dict[str, Any]:
        """Return the space's name and version."""
        return {
            "features": self.space.name,
            "features_version": self.space.version,
            "texture_weight": texture_weight if self.space.name == "mixed" else None,
        }

    def read(self, rows: slice) -> NDArray[np.uint8]:
        """Return uint8 (n, S, S, 3) thumbnails."""
        return self.collection.thumbnails(rows)

    def compute(self, stored: NDArray[np.uint8]) -> Rows:
        """Return their features."""
        return self.space.compute(stored)


@dataclass(frozen=True, slots=True)
class EmbeddingRows:
    """Features that a model made of the original files, and that are stored."""

    embeddings: Embeddings
    n_rows: int

    @property
    def shown(self) -> str:
        """How the option begins."""
        return "onnx"

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """One part."""
        return (self.embeddings.width,)

    @property
    def blocks(self) -> list[slice]:
        """Blocks of embeddings."""
        return self.embeddings.blocks(self.n_rows)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block of embeddings."""
        return 4 * self.embeddings.width * max((block.stop - block.start for block in self.blocks), default=0)

    @property
    def temporary_bytes(self) -> int:
        """None."""
        return 0

    def part_energies(self, texture_weight: float) -> tuple[float, ...]:  # noqa: ARG002
        """Return 1: a part alone stays as it is."""
        return (1.0,)

    def recipe(self, texture_weight: float) -> dict[str, Any]:  # noqa: ARG002
        """Return what stands for the model and how it is fed; not where it lies."""
        return {"features": "onnx", "features_version": EMBEDDING_VERSION, "embedding": self.embeddings.name}

    def read(self, rows: slice) -> NDArray[np.float32]:
        """Return float32 (n, D) embeddings."""
        return self.embeddings.vectors(rows)

    def compute(self, stored: NDArray[np.float32]) -> Rows:
        """Return them as they are."""
        return stored
