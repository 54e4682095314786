# SPDX-License-Identifier: Apache-2.0
"""How often Python looks for reference cycles in a process that loads torch.

By default after every 700 new objects. Importing torch and transformers makes hundreds of thousands that stay, and looking
through them again and again took a sixth of the 6 s of processor time that the imports need.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 50_000


def collect_rarely() -> None:
    """Sets it for this process; tensors do not wait for it, they go with their last reference."""
    gc.set_threshold(NEW_OBJECTS)
