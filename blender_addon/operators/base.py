# SPDX-License-Identifier: GPL-3.0-or-later
"""What all operators share: errors in words, and the memory of the active object.

Operators return at once: results arrive through `session.pump`. All of them can be called from scripts and in `blender -b`.
"""

import traceback

import bpy
from bpy.props import StringProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError

from ..properties import GenesisMemory, memory_of
from ..session import session, unexpected


class GenesisOperator(bpy.types.Operator):
    """An operator whose GenesisErrors are reported in words."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Runs `work`; an error ends it without an undo step."""
        session.touch()  # whatever it does, the panel shows it, wherever it was called from
        try:
            self.work(context)
        except Exception as error:  # noqa: BLE001  a mistake of ours is said in words as well; the console has all of it
            if not isinstance(error, GenesisError):
                traceback.print_exc()
                error = unexpected(error)
            session.error = error
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def work(self, context: bpy.types.Context) -> None:
        """What the operator does."""
        raise NotImplementedError


class AssetOperator(GenesisOperator):
    """Works on the active object, which Genesis has made."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs a result that is not being worked on."""
        memory = memory_of(context.active_object)
        if memory is None or not memory.imported:
            cls.poll_message_set("Select an object made by Genesis")
            return False
        if memory.job:
            cls.poll_message_set("This object is being worked on")
            return False
        return True

    @staticmethod
    def memory(context: bpy.types.Context) -> GenesisMemory:
        """That of the active object."""
        return memory_of(context.active_object)


class JobOperator(GenesisOperator):
    """Works on one job, by the key that its mesh carries; by default that of the active object, or the only one."""

    bl_options = {"INTERNAL"}

    job: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def key(self, context: bpy.types.Context) -> str:
        """The job's key.

        Raises:
            GenesisError: JOB_UNKNOWN.
        """
        memory = memory_of(context.active_object)
        key = session.resolve(self.job or (memory.job if memory is not None else ""))
        open_keys = [task.key for task in session.tasks.values() if not task.delivered]
        if not key and len(open_keys) == 1:
            key = open_keys[0]
        if key not in session.tasks:
            raise GenesisError(ErrorCode.JOB_UNKNOWN, "There is no such job.", "Select the object that waits for it.")
        return key
