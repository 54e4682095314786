# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the server's environment from inside Blender: looks at the machine, installs step by step, says how far it is.

    found = look(folder, online=bpy.app.online_access)      # takes a second or two: call it in a thread, or accept the wait
    work = Installation(folder, find_bundle(), found)
    work.start()                                             # a thread without bpy; `work.status()` suits a timer and a panel
    python_of(folder)                                        # the interpreter to start the server with, once it is done

Standard library and the protocol only, and no bpy: it runs in Blender's Python as it does in a test.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle, find_bundle
    from .installation import Installation, Status
    from .machine import Found, look
    from .record import State, python_of, remove, state_of

_PLACES = {
    "bundle": ("Bundle", "find_bundle"),
    "installation": ("Installation", "Status"),
    "machine": ("Found", "look"),
    "recipe": (),
    "record": ("State", "python_of", "remove", "state_of"),
}
__all__ = ["Bundle", "Found", "Installation", "State", "Status", "find_bundle", "look", "python_of", "remove", "state_of"]


def __getattr__(name: str) -> Any:
    """Brings a part when it is asked for: most Blenders never install anything."""
    for module, names in _PLACES.items():
        if name in names or name == module:
            found = importlib.import_module(f".{module}", __name__)
            return found if name == module else getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
