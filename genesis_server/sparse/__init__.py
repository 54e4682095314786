# SPDX-License-Identifier: Apache-2.0
"""Sparse voxel tensors and the index operations between their levels (docs/spec/networks.md 2.2, 3.10)."""

from genesis_server.sparse.tensor import Level, SparseTensor

__all__ = ["Level", "SparseTensor"]
