# SPDX-License-Identifier: Apache-2.0
"""Variants of one object: the same job with several seeds, each an asset of its own, all of one group."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from genesis_server.protocol.parameters import MAX_SEED
from genesis_server.protocol.requests import Submit

_SUFFIX = ".genesis"


def variants(request: Submit, seeds: Sequence[int]) -> list[Submit]:
    """One request per seed, for an asset `<name>_seed<seed>` (with .genesis where the request's has it), in one new group."""
    group = request.group or uuid.uuid4().hex[:12]
    made = []
    for seed in seeds:
        path = PurePath(request.asset)
        ending = path.suffix if path.suffix == _SUFFIX else ""
        name = f"{path.name.removesuffix(ending)}_seed{seed}{ending}"
        asset = str(path.with_name(name)) if path.name != request.asset else name
        made.append(replace(request, asset=asset, changes={**request.changes, "seed": seed}, group=group))
    return made


def different_seeds(first: int, count: int) -> list[int]:
    """`count` seeds that begin with `first`; the same for the same first one."""
    draw = random.Random(first)
    seeds = [first]
    while len(seeds) < count:
        seed = draw.randint(0, MAX_SEED)
        if seed not in seeds:
            seeds.append(seed)
    return seeds[:count]
