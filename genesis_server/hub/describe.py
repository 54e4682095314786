# SPDX-License-Identifier: Apache-2.0
"""What a model says about itself in its `pipeline.json`, for those who choose it: its own sampler settings and its limits.

Reads one small file and no weights; the pipeline reads the same file strictly, here whatever is not as expected is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

from genesis_server.hub.locate import open_source
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import GenerateSettings, SamplerSettings

_CONFIGURATION = "pipeline.json"
SAMPLERS = {"structure": "sparse_structure_sampler", "shape": "shape_slat_sampler", "texture": "tex_slat_sampler"}
_MAX_LIMITS = 300  # characters; it is one line


@dataclass(frozen=True)
class Description:
    """What is known of a model.

    Attributes:
        limits: one sentence on what it cannot do; empty where it says nothing.
        defaults: its own sampler settings by dotted name, such as {"shape.steps": 12}; a resolution where it names one.
    """

    limits: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


def describe(model_id: str) -> Description:
    """What a model says; nothing for one that is not here, or is damaged."""
    try:
        path = open_source(model_id).find(_CONFIGURATION)
        values = json.loads(path.read_text("utf-8")) if path is not None else {}
        return Description(str(values.get("limits", ""))[:_MAX_LIMITS], _defaults(values.get("args", {})))
    except (GenesisError, OSError, ValueError, AttributeError, TypeError):
        return Description()


def _defaults(args: dict[str, Any]) -> dict[str, Any]:
    known = {item.name for item in fields(SamplerSettings)}
    found = {
        f"{stage}.{name}": value
        for stage, key in SAMPLERS.items()
        for name, value in args.get(key, {}).get("params", {}).items()
        if name in known
    }
    if "default_pipeline_type" in args:
        found["resolution"] = args["default_pipeline_type"]
    GenerateSettings().with_values(found)  # refuses what could not be set either
    return found
