# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a job in the queue."""

import time

import bpy
from bpy.props import FloatProperty, IntProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError

from ..session import session
from .base import GenesisOperator, JobOperator

PUMP_EVERY = 0.02  # seconds between steps while a script waits


class GENESIS_OT_cancel(JobOperator):
    """Stop this job; finished stages are kept in its folder"""

    bl_idname = "genesis.cancel"
    bl_label = "Cancel"

    def work(self, context: bpy.types.Context) -> None:
        """Asks the server; the placeholder goes when the job has ended."""
        session.cancel(self.key(context))


class GENESIS_OT_retry(JobOperator):
    """Run this job again from its first unfinished stage"""

    bl_idname = "genesis.retry"
    bl_label = "Try Again"

    def work(self, context: bpy.types.Context) -> None:
        """Queues it again."""
        session.retry(self.key(context))


class GENESIS_OT_discard(JobOperator):
    """Forget this job and remove its placeholder"""

    bl_idname = "genesis.discard"
    bl_label = "Discard"
    bl_options = {"INTERNAL", "UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Forgets it."""
        session.discard(self.key(context))


class GENESIS_OT_import_result(JobOperator):
    """Import the finished result of this placeholder, which undo has brought back"""

    bl_idname = "genesis.import_result"
    bl_label = "Import Result"

    def work(self, context: bpy.types.Context) -> None:
        """Lets the next step import it."""
        session.deliver_again(self.key(context))


class GENESIS_OT_move_job(JobOperator):
    """Move this job among those that wait"""

    bl_idname = "genesis.move_job"
    bl_label = "Move Job"

    by: IntProperty(default=1, description="Places; negative is sooner", options={"SKIP_SAVE"})

    def work(self, context: bpy.types.Context) -> None:
        """Asks the server."""
        session.move(self.key(context), self.by)


class GENESIS_OT_wait(GenesisOperator):
    """Wait until all jobs have arrived; for scripts, since it blocks Blender"""

    bl_idname = "genesis.wait"
    bl_label = "Wait for Jobs"
    bl_options = {"INTERNAL"}

    timeout: FloatProperty(name="Timeout", description="Seconds after which it gives up", default=3600.0, min=0.0)

    def work(self, _context: bpy.types.Context) -> None:
        """Does what the timer would."""
        end = time.monotonic() + self.timeout
        while session.busy:
            session.pump(time.monotonic())
            if time.monotonic() > end:
                raise GenesisError(
                    ErrorCode.NOT_CONNECTED, f"The jobs were not done within {self.timeout:g} s.", "Wait for longer."
                )
            time.sleep(PUMP_EVERY)
        failed = [task.error for task in session.tasks.values() if task.error is not None]
        if failed or session.error is not None:
            raise failed[0] if failed else session.error


CLASSES = (
    GENESIS_OT_cancel,
    GENESIS_OT_retry,
    GENESIS_OT_move_job,
    GENESIS_OT_discard,
    GENESIS_OT_import_result,
    GENESIS_OT_wait,
)
