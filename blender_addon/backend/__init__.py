# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the server's environment from inside Blender: looks at the machine, installs step by step, says how far it is.

    found = look(folder, online=bpy.app.online_access)      # takes a second or two: call it in a thread, or accept the wait
    work = Installation(folder, find_bundle(), found)
    work.start()                                             # a thread without bpy; `work.status()` suits a timer and a panel
    python_of(folder)                                        # the interpreter to start the server with, once it is done

Standard library and the protocol only, and no bpy: it runs in Blender's Python as it does in a test.
"""

from .bundle import Bundle, find_bundle
from .installation import Installation, State, Status, python_of, remove, state_of
from .machine import Found, look

__all__ = [
    "Bundle",
    "Found",
    "Installation",
    "State",
    "Status",
    "find_bundle",
    "look",
    "python_of",
    "remove",
    "state_of",
]
