# SPDX-License-Identifier: Apache-2.0
"""O-Voxels as .vxz files, the format that other O-Voxel tools read (docs/spec/geometry.md 2 and 6.1).

Everything is a byte per channel: offsets and attributes are clamped to 0..1 and truncated (`trunc(255 x)`, read back as
`byte / 255`), flags are three bits. Two things go beyond the published files, in places that their readers pass over:

- header key `resolution`: cells per axis. Files without it are given the smallest power of two that holds their cells.
- attribute `split_weight`, one byte `round(128 + 16 log2(s))`, so 2^-8 to almost 2^8 in steps of 4.4 %. A quad's diagonal
  is chosen by the sign of `log s0 + log s2 - log s1 - log s3`, which logarithmic bytes keep wherever the weights
  differ by more than their rounding, and where they do not either diagonal is as good.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genesis_server.ovoxel.voxels import ATTRIBUTE_CHANNELS, OVoxel
from genesis_server.ovoxel.vxz_container import decode_container, encode_container
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

_MISSING_CHANNEL = {"base_color": 1.0, "metallic": 0.0, "roughness": 1.0, "alpha": 1.0}  # of a file with some attributes
_SPLIT_ZERO, _SPLIT_STEPS = 128, 16  # see above
RESOLUTION_MAX = 1 << 20


def write_vxz(path: str | Path, voxels: OVoxel, **layout: str | int) -> None:
    """Write one O-Voxel.

    Args:
        path: file to write; written in place, so hand in a temporary name where a crash must not matter.
        voxels: unique cells inside the grid.
        layout: `chunk_size`, `filtering`, `compression`, `level`, `interleave` as of `encode_container`.

    Raises:
        GenesisError: BAD_ASSET for values that are not finite or cells that no file can hold.
    """
    attributes = {
        "dual_vertices": _quantise(voxels.dual_vertices, "dual vertices"),
        "intersected": (voxels.intersected.long() * torch.tensor([1, 2, 4], device=voxels.intersected.device))
        .sum(1, keepdim=True).to(torch.uint8),
    }  # fmt: skip
    if voxels.split_weight is not None:
        attributes["split_weight"] = _quantise_split(voxels.split_weight)
    if voxels.attributes is not None:
        values = _quantise(voxels.attributes, "attributes")
        attributes |= {name: values[:, channels] for name, channels in ATTRIBUTE_CHANNELS.items()}
    arrays = {name: values.cpu().numpy() for name, values in attributes.items()}
    try:
        data = encode_container(voxels.coords.cpu().numpy(), arrays, extra={"resolution": voxels.resolution}, **layout)
    except ValueError as error:
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"The O-Voxel cannot be stored: {error}.", "Generate the shape again.", Remedy.RETRY
        ) from error
    Path(path).write_bytes(data)


def read_vxz(path: str | Path) -> OVoxel:
    """Read one O-Voxel, on the CPU, cells in file order.

    Raises:
        GenesisError: BAD_ASSET for a missing, truncated, damaged or foreign file, and for one without geometry.
    """
    path = Path(path)
    try:
        coords, parts, header = decode_container(path.read_bytes())
        return _to_voxels(coords, parts, header.get("resolution"))
    except OSError as error:
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"Cannot read {path}: {error.strerror}.", "Check the file, or generate the shape again."
        ) from error
    except ValueError as error:
        raise GenesisError(
            ErrorCode.BAD_ASSET,
            f"{path} is not a usable .vxz file: {error}.",
            "Generate the shape again, or restore the file from a copy.",
        ) from error


def _to_voxels(coords: np.ndarray, parts: dict[str, np.ndarray], resolution: int | None) -> OVoxel:
    vertices = parts.get("dual_vertices", parts.get("vertices"))
    if vertices is None or "intersected" not in parts or vertices.shape[1] != 3 or parts["intersected"].shape[1] != 1:
        raise ValueError(f"it holds {sorted(parts)}, but no dual vertices and flags")
    largest = int(coords.max(initial=0))
    if resolution is None:
        resolution = 1 << max(largest, 1).bit_length()
    if not isinstance(resolution, int) or not largest < resolution <= RESOLUTION_MAX:
        raise ValueError(f"its resolution is {resolution!r} with cells up to {largest}")
    split = parts.get("split_weight")
    flags = parts["intersected"].astype(np.int64) >> np.arange(3) & 1
    return OVoxel(
        coords=torch.from_numpy(coords),
        dual_vertices=_dequantise(vertices),
        intersected=torch.from_numpy(flags.astype(bool)),
        resolution=resolution,
        split_weight=None if split is None else torch.exp2((torch.from_numpy(split).float() - _SPLIT_ZERO) / _SPLIT_STEPS),
        attributes=_attributes(parts, len(coords)),
    )


def _attributes(parts: dict[str, np.ndarray], count: int) -> Tensor | None:
    if not set(ATTRIBUTE_CHANNELS) & set(parts):
        return None
    table = torch.empty(count, 6)
    for name, channels in ATTRIBUTE_CHANNELS.items():
        width = channels.stop - channels.start
        if name in parts and parts[name].shape[1] != width:
            raise ValueError(f"{name} has {parts[name].shape[1]} channels instead of {width}")
        table[:, channels] = _dequantise(parts[name]) if name in parts else _MISSING_CHANNEL[name]
    return table


def _quantise(values: Tensor, what: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"The O-Voxel's {what} are not all finite.", "Generate the shape again.", Remedy.RETRY
        )
    return (values.float().clamp(0, 1) * 255).to(torch.uint8)


def _dequantise(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)) / 255


def _quantise_split(weight: Tensor) -> Tensor:
    steps = torch.log2(weight.float().nan_to_num(1.0).clamp(min=1e-30)) * _SPLIT_STEPS
    return (steps + _SPLIT_ZERO).round().clamp(0, 255).to(torch.uint8)
