# SPDX-License-Identifier: Apache-2.0
"""Closed-form stand-ins for the networks, as the pipeline goldens define them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genesis_server.networks.dual_grid_vae import DualGridVoxels
from genesis_server.pipeline.config import ModelConfig, Normalisation
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.samplers import SamplerParameters
from genesis_server.sparse.tensor import SparseTensor


def toy_velocity(x: Tensor, t: Tensor, cond: Tensor, rows: Tensor | None = None, concat: Tensor | None = None) -> Tensor:
    """v = (0.4 + 0.6 tau) x - 0.8 tanh(x (1 + 0.5 s)) + s p cos(3 tau) [+ 0.3 k].

    Args:
        x: dense `[N, C, ...]`, or sparse `[T, C]` with `rows` the object of each row.
        t: `[N]`, 1000 tau.
        cond: `[N, L, D]`; s is its mean per object.
        concat: k, its first C channels.
    """
    tau, s = t / 1000, cond.mean(dim=(1, 2))
    p = torch.sin(0.7 * (torch.arange(x.shape[1], dtype=x.dtype) + 1))
    if rows is None:
        shape = (-1,) + (1,) * (x.ndim - 1)
        tau, s = tau.view(shape), s.view(shape)
        p = p.view(1, -1, *(1,) * (x.ndim - 2))
    else:
        tau, s = tau[rows, None], s[rows, None]
    v = (0.4 + 0.6 * tau) * x - 0.8 * torch.tanh(x * (1 + 0.5 * s)) + s * p * torch.cos(3 * tau)
    return v if concat is None else v + 0.3 * concat[:, : x.shape[1]]


class _Toy(torch.nn.Module):
    """Records when it is moved and, for flow models, the first noise it gets."""

    def __init__(self, name: str, events: list[tuple[Any, ...]]) -> None:
        super().__init__()
        self.name, self.events = name, events

    def to(self, device: Any) -> _Toy:
        self.events.append((self.name, "to", str(device)))
        return self

    def cpu(self) -> _Toy:
        self.events.append((self.name, "cpu"))
        return self


class _ToyEncoder(_Toy):
    channels = 3  # of the pictures that it is given

    def forward(self, pictures: list[Image.Image], image_size: int) -> Tensor:
        self.events.append((self.name, "call", image_size, len(pictures)))
        n = torch.tensor([np.asarray(picture).astype(np.float64).mean() / 255 for picture in pictures])
        wave = torch.sin(0.37 * torch.outer(torch.arange(5) + 1.0, torch.arange(8) + 1.0).double())
        return (n.view(-1, 1, 1) * wave + image_size / 4096).float()


class _ToyDenseFlow(_Toy):
    def __init__(self, name: str, events: list[tuple[Any, ...]], noises: dict[str, Tensor]) -> None:
        super().__init__(name, events)
        self.noises = noises

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.noises.setdefault("ss", x)
        return toy_velocity(x, t, cond)


class _ToySparseFlow(_ToyDenseFlow):
    def forward(self, x: SparseTensor, t: Tensor, cond: Tensor, concat_cond: SparseTensor | None = None) -> SparseTensor:
        self.noises.setdefault(self.name, x.feats)
        concat = None if concat_cond is None else concat_cond.feats
        return x.replace(toy_velocity(x.feats, t, cond, x.coords[:, 0].long(), concat))


class _ToyStructureDecoder(_Toy):
    def __init__(self, name: str, events: list[tuple[Any, ...]], bias: float) -> None:
        super().__init__(name, events)
        self.bias = bias

    def forward(self, z: Tensor) -> Tensor:
        i = torch.arange(64, dtype=torch.float32)
        coarse = z.mean(dim=1).repeat_interleave(16, 1).repeat_interleave(16, 2).repeat_interleave(16, 3)
        wave = torch.sin(0.9 * i)[:, None, None] * torch.sin(0.7 * i)[None, :, None] * torch.sin(0.5 * i)[None, None, :]
        return (coarse + 1.5 * wave - self.bias)[:, None]


class _ToyShapeDecoder(_Toy):
    def __init__(self, name: str, events: list[tuple[Any, ...]], resolution: int) -> None:
        super().__init__(name, events)
        self.resolution = resolution

    def upsample(self, x: SparseTensor, levels: int) -> Tensor:
        self.events.append((self.name, "upsample", levels))
        c = x.coords[:, None, 1:]
        j = torch.arange(6)[:, None] * torch.tensor([1, 2, 3])
        children = 16 * c + (c + 5 * j) % 16
        samples = x.coords[:, None, :1].expand(-1, 6, 1)
        return torch.cat([samples, children], dim=2).reshape(-1, 4).int()

    def forward(self, x: SparseTensor) -> DualGridVoxels:
        """Voxel 16 c holds the vertex ((16 c + 8) / R - 0.5 + 0.001 feats) of the goldens."""
        self.events.append((self.name, "decode"))
        coords = x.coords * torch.tensor([1, 16, 16, 16])
        offsets = 8 + 0.001 * self.resolution * x.feats[:, :3]
        flags = torch.ones_like(offsets, dtype=torch.bool)
        raw = SparseTensor(torch.zeros(len(x), 7), coords.int())
        return DualGridVoxels(raw, vertices=offsets, intersected=flags, quad_lerp=torch.ones(len(x), 1), subs=["subs"])


class _ToyTextureDecoder(_Toy):
    def forward(self, x: SparseTensor, guide_subs: list[Any]) -> SparseTensor:
        self.events.append((self.name, "decode", guide_subs))
        return x.replace(torch.tanh(x.feats[:, :6]))


def toy_model(
    index: dict[str, Any], bias: float, low_vram: bool, resolution: int
) -> tuple[Model, list[tuple[Any, ...]], dict[str, Tensor]]:
    """A model of stand-ins, the list of events it writes, and the noise that each flow model got first."""
    events: list[tuple[Any, ...]] = []
    noises: dict[str, Tensor] = {}
    networks: dict[str, _Toy] = {
        "image_cond_model": _ToyEncoder("image_cond", events),
        "sparse_structure_flow_model": _ToyDenseFlow("ss_flow", events, noises),
        "sparse_structure_decoder": _ToyStructureDecoder("ss_dec", events, bias),
        "shape_slat_decoder": _ToyShapeDecoder("shape_dec", events, resolution),
        "tex_slat_decoder": _ToyTextureDecoder("tex_dec", events),
    }
    architectures: dict[str, dict[str, Any]] = {role: {} for role in networks}
    architectures["sparse_structure_flow_model"] = {"in_channels": 8, "resolution": 4}
    architectures["shape_slat_decoder"] = {"model_channels": [5, 4, 3, 2, 1]}
    for stage, role, channels in (("shape", "shape_slat_flow_model_", 32), ("tex", "tex_slat_flow_model_", 64)):
        for size in (512, 1024):
            networks[f"{role}{size}"] = _ToySparseFlow(f"{stage}{size}", events, noises)
            architectures[f"{role}{size}"] = {"in_channels": channels}
    samplers = {
        stage: SamplerParameters.from_config("FlowEulerGuidanceIntervalSampler", {"sigma_min": 1e-5}, index["params"][key])
        for stage, key in (("structure", "ss"), ("shape", "shape"), ("texture", "tex"))
    }
    shape, texture = (
        Normalisation(*(torch.tensor(index[key][part], dtype=torch.float32) for part in ("mean", "std")))
        for key in ("norm_shape", "norm_tex")
    )
    config = ModelConfig(dict.fromkeys(architectures, ""), samplers, shape, texture, "toy")
    loaders = {role: (lambda device, network=network: network) for role, network in networks.items()}
    return Model("toy", config, architectures, loaders, "cpu", low_vram), events, noises
