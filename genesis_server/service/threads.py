# SPDX-License-Identifier: Apache-2.0
"""How torch's threads wait for each other: asleep, because the machine is also used for other things.

By default they spin. Alone that is a little faster; beside another program that wants the processor, such as Blender, they
burn the very time they wait for: on two cores with a load of 13 the structure stage took 55 to 94 s spinning and 17 s asleep.
"""

from __future__ import annotations

from collections.abc import MutableMapping

POLICY, ASLEEP = "OMP_WAIT_POLICY", "PASSIVE"


def wait_asleep(environment: MutableMapping[str, str]) -> None:
    """Sets it for a process that has not loaded torch yet, unless the user has said otherwise."""
    environment.setdefault(POLICY, ASLEEP)
