# SPDX-License-Identifier: Apache-2.0
"""The timer around the session's steps; Blender's own never fires here, so its function is called by hand."""

from __future__ import annotations

import bpy
from conftest import Blender

from genesis_server.protocol.errors import ErrorCode


def test_an_error_in_a_step_is_shown_and_the_timer_goes_on(blender: Blender, capsys) -> None:
    def broken(_now: float) -> None:
        raise RuntimeError("a defect")

    blender.session.on_step.append(broken)
    try:
        assert blender.session._ticker._tick() is not None, "None would end Blender's timer"
    finally:
        blender.session.on_step.remove(broken)
    assert blender.session.error.code == ErrorCode.INTERNAL and "a defect" in blender.session.error.message
    assert "a defect" in capsys.readouterr().err, "whoever starts Blender from a terminal sees where"


def test_the_timer_is_registered_once_and_goes_with_the_extension(blender: Blender) -> None:
    ticker = blender.session._ticker
    ticker.start()
    ticker.start()
    assert bpy.app.timers.is_registered(ticker._function)
    blender.session.close()
    assert not bpy.app.timers.is_registered(ticker._function)
