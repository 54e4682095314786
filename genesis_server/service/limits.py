# SPDX-License-Identifier: Apache-2.0
"""How much a job may cost and how long a worker may be silent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When the supervisor loses patience.

    Attributes:
        attempts: workers that one job may cost before it fails.
        starts: workers in a row that may end before they are ready; then jobs fail until someone submits again.
        start_seconds: until a worker must be ready; loading torch from a cold disk takes a minute.
        grace: seconds a cancelled job has to stop by itself; a sampler step of the large model on a CPU takes longer, a
            killed one loses only its unfinished stage.
        client_silence: seconds without a word from any client after which nobody is there any more; clients speak every
            five seconds, but a Blender that is busy says nothing for a while.
        idle_unload: seconds without a job after which the model leaves memory, unless a client says otherwise; 0 for never.
        silence: seconds without any event after which a job counts as hanging; baking 8192 px on a slow machine takes minutes.
    """

    attempts: int = 2
    starts: int = 3
    start_seconds: float = 300.0
    grace: float = 10.0
    silence: float = 1800.0
    idle_unload: float = 600.0
    client_silence: float = 30.0


DEFAULT_LIMITS = Limits()
