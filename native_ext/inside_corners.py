# SPDX-License-Identifier: Apache-2.0
"""Which corners of a grid lie inside a solid, told from unsigned edge flags of which some are wrong.

Formula: a flagged edge says that its ends differ, any other that they are alike. Start: each corner asks the six rays along the
axes for the parity of the flags on them, v = sum of +1 (odd: inside) and -1 (even). Then all edges have their say
(mean field of the spin glass `- sum of s_e u_i u_j - bias * sum of v_i u_i`, s_e = -1 on flagged edges):
`u_i <- tanh(beta * (bias v_i + sum over neighbours of s_ij u_j))`, a fixed number of times. Inside: u > 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BETA = 0.5  # the softer, the farther an edge is heard before corners decide
_BIAS = 0.25  # of the rays' vote, beside edges that count 1
_ROUNDS = 12
_TIDY_ROUNDS = 3  # corners by which thorns and pits one corner wide become shorter


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
