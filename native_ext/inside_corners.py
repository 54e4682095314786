# SPDX-License-Identifier: Apache-2.0
"""Which corners of a grid lie inside a solid, told from unsigned edge flags of which some are wrong.

Formula: a flagged edge says that its ends differ, any other that they are alike. Start: each corner asks the six rays along the
axes for the parity of the flags on them, v = sum of +1 (odd: inside) and -1 (even). Then all edges have their say
(mean field of the spin glass `- sum of s_e u_i u_j - bias * sum of v_i u_i`, s_e = -1 on flagged edges):
`u_i <- tanh(beta * (bias v_i + sum over neighbours of s_ij u_j))`, a fixed number of times. Inside: u > 0.

Where many flags contradict what comes out, the surface is torn: there gaps between corners inside may be closed.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BETA = 0.5  # the softer, the farther an edge is heard before corners decide
_BIAS = 0.25  # of the rays' vote, beside edges that count 1
_ROUNDS = 12
_TIDY_ROUNDS = 3  # corners by which thorns and pits one corner wide become shorter
_WINDOW = 6  # corners to each side, in which wrong flags are counted
_TORN = 3  # where more than one flag of so many is wrong
_GAP = 5  # half the width of the widest gap that is closed, in corners


def inside_corners(crossed: Tensor) -> Tensor:
    """The corners inside.

    Args:
        crossed: bool [3, X, Y, Z], for each axis whether the edge from a corner to the next along it is flagged. Corners on the
            box's border are outside.

    Returns:
        bool [X, Y, Z].
    """
    flagged = crossed.float()
    vote = torch.zeros_like(flagged[0])
    for axis in range(3):
        through = flagged[axis].cumsum(axis)
        below = through - flagged[axis]
        above = through.narrow(axis, through.shape[axis] - 1, 1) - below
        vote += 2 * (below % 2) + 2 * (above % 2) - 2
    vote *= _BETA * _BIAS
    sign = _BETA * (1 - 2 * flagged)
    inside = torch.tanh(vote * (1 / _BIAS))
    field = torch.empty_like(inside)
    for _ in range(_ROUNDS):
        field.copy_(vote)
        for axis in range(3):
            count = inside.shape[axis] - 1
            alike = sign[axis].narrow(axis, 0, count)
            field.narrow(axis, 0, count).addcmul_(alike, inside.narrow(axis, 1, count))
            field.narrow(axis, 1, count).addcmul_(alike, inside.narrow(axis, 0, count))
        torch.tanh(field, out=inside)
    return tidy_corners(inside > 0)


def tidy_corners(solid: Tensor) -> Tensor:
    """bool [X, Y, Z] without thorns' ends (at most one of six neighbours inside), pits (at least five), and the border."""
    solid = solid.clone()
    for axis in range(3):
        solid.select(axis, 0).zero_()
        solid.select(axis, -1).zero_()
    for _ in range(_TIDY_ROUNDS):
        beside = torch.zeros_like(solid, dtype=torch.uint8)
        for axis in range(3):
            count = solid.shape[axis] - 1
            beside.narrow(axis, 0, count).add_(solid.narrow(axis, 1, count))
            beside.narrow(axis, 1, count).add_(solid.narrow(axis, 0, count))
        solid = (solid & (beside > 1)) | (beside > 4)
    return solid


def torn_corners(crossed: Tensor, differ: Tensor) -> Tensor:
    """bool [X, Y, Z], corners around which more than a third of all flags are wrong.

    Args:
        crossed: bool [3, X, Y, Z], flagged edges; differ: those that ought to be, their ends being told apart.
    """
    wrong, flags = crossed ^ differ, crossed | differ
    return _TORN * _window_sum(wrong) > _window_sum(flags)


def _window_sum(edges: Tensor) -> Tensor:
    """int16 [X, Y, Z], how many of the edges bool [3, X, Y, Z] begin in a cube around each corner; at most 3 * 13^3."""
    count = edges[0].short() + edges[1] + edges[2]
    for axis in range(3):
        size, around = count.shape[axis], count.clone()
        for step in range(1, min(_WINDOW + 1, size)):
            around.narrow(axis, 0, size - step).add_(count.narrow(axis, step, size - step))
            around.narrow(axis, step, size - step).add_(count.narrow(axis, 0, size - step))
        count = around
    return count


def close_gaps(solid: Tensor, where: Tensor) -> Tensor:
    """bool [X, Y, Z], the corners inside, and holes, cracks and pockets of up to ten corners across between them.

    Args:
        solid: bool [X, Y, Z]; where: bool [X, Y, Z], corners that may become inside.
    """
    if not bool((where & ~solid).any()):
        return solid
    margin = _GAP + 1
    grown = torch.nn.functional.pad(solid, (margin,) * 6)
    for _ in range(2):  # grow; then what is outside grows back
        for step in range(_GAP):
            grown = _grown(grown, cube=step % 3 == 1)
        grown = ~grown
    inner = (slice(margin, -margin),) * 3
    return solid | (grown[inner] & where)


def _grown(solid: Tensor, cube: bool) -> Tensor:
    """With the neighbours along the axes; or with all 26: one step in three makes the shape round."""
    result = solid.clone()
    for axis in range(3):
        count, near = solid.shape[axis] - 1, result.clone() if cube else solid
        result.narrow(axis, 0, count).logical_or_(near.narrow(axis, 1, count))
        result.narrow(axis, 1, count).logical_or_(near.narrow(axis, 0, count))
    return result
