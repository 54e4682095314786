# SPDX-License-Identifier: Apache-2.0
"""Which grids, networks and picture sizes a pipeline type means for a given model (docs/spec/pipeline.md 9.1).

`512` runs one shape pass with the 512 networks; `1024_cascade` finds its coordinates with the smallest shape network and
refines them with the largest. The same rule reads `128` on genesis-mini: sizes follow from the model's roles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from genesis_server.protocol.errors import ErrorCode, GenesisError

SHAPE_ROLE, TEXTURE_ROLE = "shape_slat_flow_model_", "tex_slat_flow_model_"
MAX_TOKENS = 49152  # the published limit of the refined pass; it lowers the resolution, never below the network's own
RESOLUTION_MAX = 2048  # voxels per axis of a given mesh
LIMIT_STEP = 8  # latent cells by which a cascade shrinks when it has too many tokens; 128 voxels at the published ratio


@dataclass(frozen=True)
class Pass:
    """One run of a flow model on structured latents.

    Attributes:
        role: the network.
        resolution: voxels per axis that the network was made for.
        image_size: pixels of the pictures behind its conditioning.
    """

    role: str
    resolution: int
    image_size: int


@dataclass(frozen=True)
class Plan:
    """What one pipeline type runs.

    Attributes:
        type: its name.
        ratio: voxels per latent cell and axis.
        structure_size: pixels behind the structure's conditioning.
        shape: one pass, or two for a cascade.
        texture: the texture pass.
        resolution: voxels per axis of the result; a cascade may end lower.
    """

    type: str
    ratio: int
    structure_size: int
    shape: tuple[Pass, ...]
    texture: Pass
    resolution: int

    @property
    def grid(self) -> int:
        """Cells per axis of the sparse structure."""
        return self.shape[0].resolution // self.ratio

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Every picture size in use, ascending."""
        return tuple(sorted({self.structure_size, self.texture.image_size, *(item.image_size for item in self.shape)}))


@dataclass(frozen=True)
class TexturePlan:
    """What texturing a given mesh runs.

    Attributes:
        ratio: voxels per latent cell and axis.
        texture: the texture pass.
        resolution: voxels per axis of the mesh.
    """

    ratio: int
    texture: Pass
    resolution: int


def make_texture_plan(pipeline_type: str, roles: Mapping[str, object], ratio: int, image_size: int | None) -> TexturePlan:
    """The plan for a given mesh at the resolution that a pipeline type names: 1024 of `1024_cascade`.

    The network is the first one made for that resolution or above, else the largest (docs/spec/pipeline.md 13.3, 13.5).

    Raises:
        GenesisError: BAD_MODEL when the model has no texture network, BAD_PARAMETER for a type that names no resolution.
    """
    known = sorted(_resolutions(roles, TEXTURE_ROLE))
    if not known:
        raise GenesisError(ErrorCode.BAD_MODEL, "The model has no texture network.", f"It has {', '.join(roles)}.")
    match = re.fullmatch(r"(\d+)(_cascade)?", pipeline_type)
    wanted = int(match[1]) if match else 0
    if not 2 * ratio <= wanted <= RESOLUTION_MAX or wanted % ratio:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            f"A mesh cannot be textured at the resolution {pipeline_type!r}.",
            f"Use a multiple of {ratio} up to {RESOLUTION_MAX}, such as {known[-1]}.",
        )
    chosen = next((value for value in known if value >= wanted), known[-1])
    return TexturePlan(ratio, Pass(f"{TEXTURE_ROLE}{chosen}", chosen, image_size or chosen), wanted)


def make_plan(pipeline_type: str, roles: Mapping[str, object], ratio: int, image_size: int | None) -> Plan:
    """The plan of a pipeline type.

    Args:
        roles: the model's networks by role.
        image_size: of the model's configuration; None means each network's own resolution.

    Raises:
        GenesisError: BAD_PARAMETER for a type that the model has no networks for, naming those it has.
    """
    shape, texture = (sorted(_resolutions(roles, prefix)) for prefix in (SHAPE_ROLE, TEXTURE_ROLE))
    known = [value for value in shape if value in texture]
    match = re.fullmatch(r"(\d+)(_cascade)?", pipeline_type)
    wanted = int(match[1]) if match else 0
    cascade = bool(match and match[2])
    if (
        not known
        or (cascade and (len(known) < 2 or wanted < known[-1] or wanted % ratio))
        or (not cascade and wanted not in known)
    ):
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            f"This model has no networks for the resolution {pipeline_type!r}.",
            f"Use one of {', '.join(_types(known))}.",
        )
    passes = (known[0], known[-1]) if cascade else (wanted,)
    return Plan(
        pipeline_type,
        ratio,
        image_size or known[0],
        tuple(Pass(f"{SHAPE_ROLE}{value}", value, image_size or value) for value in passes),
        Pass(f"{TEXTURE_ROLE}{passes[-1]}", passes[-1], image_size or passes[-1]),
        wanted,
    )


def _resolutions(roles: Mapping[str, object], prefix: str) -> set[int]:
    endings = (role.removeprefix(prefix) for role in roles if role.startswith(prefix))
    return {int(ending) for ending in endings if ending.isdigit()}


def pipeline_types(roles: Mapping[str, object]) -> list[str]:
    """The types that a model has networks for."""
    shape, texture = (_resolutions(roles, prefix) for prefix in (SHAPE_ROLE, TEXTURE_ROLE))
    return _types(sorted(shape & texture))


def _types(known: list[int]) -> list[str]:
    cascades = [f"{known[-1]}_cascade", f"{known[-1] * 3 // 2}_cascade"] if len(known) > 1 else []
    return [str(value) for value in known] + cascades
