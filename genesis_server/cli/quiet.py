# SPDX-License-Identifier: Apache-2.0
"""Starts Warp without the remark that there is no NVIDIA driver, which it makes below Python; `genesis doctor` says it."""

from __future__ import annotations

import os


def start_warp() -> None:
    """Initialises Warp with standard error closed to its native code.

    Raises:
        ImportError: where Warp is not installed.
    """
    import warp

    warp.config.log_level = warp.LOG_ERROR
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        warp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
