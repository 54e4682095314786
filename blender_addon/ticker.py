# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's timer around one step: an error in a step is shown and does not end the timer, with jobs under way."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import bpy


class Ticker:
    """Calls a step again and again until it says that there is nothing to listen to."""

    def __init__(self, step: Callable[[float], float | None], on_error: Callable[[Exception], float]) -> None:
        """Nothing is called yet.

        Args:
            step: gets monotonic seconds, returns seconds until the next call or None to end.
            on_error: what to do with an exception of the step; returns seconds until the next call.
        """
        self._step, self._on_error = step, on_error
        self._function = self._tick  # one object: Blender tells timers by identity

    def start(self) -> None:
        """Sees that the timer runs."""
        if not bpy.app.timers.is_registered(self._function):
            bpy.app.timers.register(self._function, first_interval=0.0, persistent=True)

    def stop(self) -> None:
        """Ends it."""
        if bpy.app.timers.is_registered(self._function):
            bpy.app.timers.unregister(self._function)

    def _tick(self) -> float | None:
        try:
            return self._step(time.monotonic())
        except Exception as error:  # noqa: BLE001  whatever it is: Blender would drop the timer, and every job with it
            traceback.print_exc()
            return self._on_error(error)
