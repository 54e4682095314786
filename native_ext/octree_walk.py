# SPDX-License-Identifier: Apache-2.0
"""Walk of a pre-order octree: from a byte per node to the Morton codes of its leaves (docs/spec/geometry.md 6.1, *svo stream*).

The depth of a byte is known only after all bytes before it, so the walk is one thread's work; it is a kernel because a
thousand-resolution object has millions of nodes.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})


def octree_leaves(nodes: Tensor, depth: int) -> Tensor:
    """Morton codes of the voxels, ascending.

    Args:
        nodes: uint8 [M] on the CPU, child masks in depth-first order; nodes at `depth - 1` have voxels as children.
        depth: levels, 1 to 10.

    Returns:
        int32 [N].

    Raises:
        ValueError: bytes left over, missing, or an inner node without children.
    """
    wp.init()
    codes = torch.empty(8 * len(nodes), dtype=torch.int32)
    result = torch.zeros(2, dtype=torch.int32)
    masks, prefixes = torch.zeros(depth, dtype=torch.int32), torch.zeros(depth, dtype=torch.int32)
    tensors = [wp.from_torch(t) for t in (nodes.int(), masks, prefixes, codes, result)]
    wp.launch(_walk, dim=1, inputs=[depth, *tensors], device="cpu")
    read, count = result.tolist()
    if read != len(nodes):
        raise ValueError(f"octree of {len(nodes)} nodes ends after {abs(read)}")
    return codes[:count].clone()


@wp.kernel
def _walk(
    depth: int,
    nodes: wp.array(dtype=int),
    masks: wp.array(dtype=int),
    prefixes: wp.array(dtype=int),
    codes: wp.array(dtype=int),
    result: wp.array(dtype=int),
):
    """`masks[l]`, `prefixes[l]`: children still to visit and code of the node open at level l; read is negative on a fault."""
    read = int(1)
    count = int(0)
    level = int(0)
    masks[0] = nodes[0]
    prefixes[0] = 0
    while level >= 0:
        mask = masks[level]
        if mask == 0:
            level -= 1
        else:
            digit = int(0)
            while ((mask >> digit) & 1) == 0:
                digit += 1
            masks[level] = mask & (mask - 1)
            child = prefixes[level] * 8 + digit
            if level == depth - 1:
                codes[count] = child
                count += 1
            elif read >= nodes.shape[0] or nodes[read] == 0:
                read = -read
                level = -1
            else:
                level += 1
                masks[level] = nodes[read]
                prefixes[level] = child
                read += 1
    result[0] = read
    result[1] = count
