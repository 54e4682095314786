# SPDX-License-Identifier: Apache-2.0
"""Every texel without a value takes that of the nearest texel that has one (docs/spec/geometry.md 19.2).

An exact nearest-site transform in two passes (Saito & Toriwaki 1994): down each column the row of the nearest covered texel,
`g(r, c)`; then along each row `argmin_c' (c - c')^2 + (r - g(r, c'))^2`, looking outward from c until `(c - c')^2` alone is too
much. Ties go to the smaller column offset, left before right, and above before below: the same on every device.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_NONE = wp.constant(-1)


@wp.kernel
def _nearest_in_column(covered: wp.array2d(dtype=wp.bool), site: wp.array2d(dtype=int)):
    col = wp.tid()
    height = covered.shape[0]
    last = int(_NONE)
    for row in range(height):
        if covered[row, col]:
            last = row
        site[row, col] = last
    last = int(_NONE)
    for back in range(height):
        row = height - 1 - back
        if covered[row, col]:
            last = row
        above = site[row, col]
        if last >= 0 and (above < 0 or last - row < row - above):
            site[row, col] = last


@wp.kernel
def _nearest_in_row(covered: wp.array2d(dtype=wp.bool), site: wp.array2d(dtype=int), source: wp.array2d(dtype=int)):
    row, col = wp.tid()
    width = covered.shape[1]
    if covered[row, col]:
        source[row, col] = row * width + col
        return
    best = int(2147483647)
    found = int(-1)
    step = int(0)
    while step * step < best and step < width:
        for side in range(2):
            c = col - step
            if side == 1:
                c = col + step
            if c >= 0 and c < width and (side == 0 or step > 0):
                r = site[row, c]
                if r >= 0:
                    d = step * step + (r - row) * (r - row)
                    if d < best:
                        best = d
                        found = r * width + c
        step += 1
    source[row, col] = found


def nearest_covered(covered: Tensor) -> Tensor:
    """Where every texel takes its value from.

    Args:
        covered: bool [H, W], H * W below 2^31.

    Returns:
        int32 [H, W], flat index of the nearest covered texel, its own for covered ones; -1 everywhere where none is covered.
    """
    wp.init()
    height, width = covered.shape
    site = torch.empty((height, width), dtype=torch.int32, device=covered.device)
    source = torch.empty_like(site)
    on = wp.device_from_torch(covered.device)
    given, site_wp = wp.from_torch(covered.contiguous()), wp.from_torch(site)
    with wp.ScopedStream(wp.stream_from_torch(covered.device) if covered.is_cuda else None):
        wp.launch(_nearest_in_column, dim=width, inputs=[given, site_wp], device=on)
        wp.launch(_nearest_in_row, dim=(height, width), inputs=[given, site_wp, wp.from_torch(source)], device=on)
    return source
