# SPDX-License-Identifier: Apache-2.0
"""Runner for the network goldens: tiny networks with random weights, fp32 and half precision.

Limits are those suggested by the goldens' own notes: what an independent implementation with another order of
operations showed, times about ten in fp32; in half precision, the distance between the half and the fp32 run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from genesis_server.networks import registry
from genesis_server.networks.image_encoder import DinoV3FeatureExtractor, picture_to_tensor
from genesis_server.networks.norms import ChannelLayerNorm32, MultiHeadRMSNorm
from genesis_server.networks.positions import absolute_embedding, rotary_phases
from genesis_server.networks.structure_vae import pixel_shuffle_3d
from genesis_server.networks.timestep import timestep_frequencies
from genesis_server.sparse.resample import (
    average_downsample,
    channel_to_space,
    coarsen,
    nearest_upsample,
    space_to_channel,
    subdivide,
)
from genesis_server.sparse.tensor import Level, SparseTensor
from native_ext.head_norm import rotate
from native_ext.submanifold_conv import submanifold_conv
from tests.parity import Limit, Outcome, compare

FLOW = Limit(2e-5, 5e-6)
AUTOENCODER = Limit(5e-5, 1e-5)
TIMESTEP = Limit(6e-5, 5e-6)  # one unit in the last place of the angle at t = 1000; processors differ in that bit of exp
HALF = {"bf16": Limit(relative=1e-2), "fp16": Limit(relative=3e-3)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Tensors = dict[str, Tensor]
Pairs = Iterator[tuple[str, Tensor, Tensor]]


@torch.no_grad()
def run(folder: Path) -> Iterator[Outcome]:
    """Outcomes of the case in a folder, one per precision."""
    config_path = folder / "config.json"
    if not (folder / "io_fp32.safetensors").is_file() or not config_path.is_file():
        return
    config = json.loads(config_path.read_text(encoding="utf-8"))
    check = CHECKS.get(config.get("name"))
    if check is None:
        return
    for path in sorted(folder.glob("io_*.safetensors")):
        precision = path.stem.removeprefix("io_")
        limit = HALF.get(precision, AUTOENCODER if config["name"].endswith(("Encoder", "Decoder")) else FLOW)
        yield compare(f"{folder.name} {precision}", limit, check(folder, config, load_file(path), DTYPES[precision]))
        if check is _ops:
            yield compare(f"{folder.name} timestep", TIMESTEP, _timestep(load_file(path)))


def _network(folder: Path, config: dict, dtype: torch.dtype) -> nn.Module:
    network = registry.build(config, dtype)
    registry.load_state(network, load_file(folder / "state_dict.safetensors"), str(folder))
    return network.eval()


def _sparse(io: Tensors, name: str) -> SparseTensor:
    return SparseTensor(io[f"{name}.feats"], io[f"{name}.coords"])


def _structure_flow(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    network = _network(folder, config, dtype)
    yield "out", network(io["in.x"], io["in.t"], io["in.cond"]), io["out"]
    projected = network.project_context(io["in.cond"])
    yield "out (projected context)", network(io["in.x"], io["in.t"], projected), io["out"]
    blind = network.project_context(torch.zeros_like(io["in.cond"]))
    for together in (False, True):
        out = network.both(io["in.x"], io["in.t"], projected, blind, together)[0]
        yield f"out (with the unconditional pass{', one batch' if together else ''})", out, io["out"]


def _latent_flow(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    network = _network(folder, config, dtype)
    x = _sparse(io, "in.x")
    concat = x.replace(io["in.concat_cond.feats"]) if "in.concat_cond.feats" in io else None
    yield "out", network(x, io["in.t"], io["in.cond"], concat).feats, io["out.feats"]
    projected = network.project_context(io["in.cond"])
    yield "out (projected context)", network(x, io["in.t"], projected, concat).feats, io["out.feats"]
    blind = network.project_context(torch.zeros_like(io["in.cond"]))
    yield "out (with the unconditional pass)", network.both(x, io["in.t"], projected, blind, False, concat)[0], io["out.feats"]
    if "out_cond_list.feats" in io:
        conditions = [io[f"in.cond_list.{b}"] for b in range(x.batch_size)]
        yield "out_cond_list", network(x, io["in.t"], conditions, concat).feats, io["out_cond_list.feats"]


def _structure_encoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    mean, logvar = _network(folder, config, dtype)(io["in.x"])
    yield "mean", mean, io["out.mean"]
    yield "logvar", logvar, io["out.logvar"]


def _structure_decoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    yield "out", _network(folder, config, dtype)(io["in.x"]), io["out"]


def _sparse_encoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    network = _network(folder, config, dtype)
    if "in.vertices.feats" in io:
        vertices = SparseTensor(io["in.vertices.feats"], io["in.coords"])
        mean, logvar = network(vertices, io["in.intersected.feats"])
    else:
        mean, logvar = network(SparseTensor(io["in.x.feats"], io["in.coords"]))
    yield "coords", mean.coords, io["out.z.coords"]
    yield "mean", mean.feats, io["out.mean"]
    yield "logvar", logvar.feats, io["out.logvar"]


def _shape_decoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    network = _network(folder, config, dtype)
    x = _sparse(io, "in.x")
    voxels = network(x)
    yield "coords", voxels.coords, io["out.coords"]
    yield "raw", voxels.raw.feats, io["mid.output_layer.feats"]
    yield "vertices", voxels.vertices, io["out.vertices"]
    yield "intersected", voxels.intersected, io["out.intersected"]
    yield "quad_lerp", voxels.quad_lerp, io["out.quad_lerp"]
    for i, sub in enumerate(voxels.subs):
        yield f"subs.{i}.coords", sub.coords, io[f"out.subs.{i}.coords"]
        yield f"subs.{i}", sub.feats, io[f"out.subs.{i}.feats"]
        yield f"upsample {i + 1}", network.upsample(_sparse(io, "in.x"), i + 1), io[f"out.upsample_{i + 1}.coords"]


def _texture_decoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    network = _network(folder, config, dtype)
    guides = [_sparse(io, f"in.guide_subs.{i}") for i in range(network.up_levels)]
    out = network(_sparse(io, "in.x"), guide_subs=guides)
    yield "coords", out.coords, io["out.coords"]
    yield "feats", out.feats, io["out.feats"]
    level = Level(io["cached.in.fine_coords"])
    for _ in range(network.up_levels):
        level = coarsen(level)
    yield "cached.in.z.coords", level.coords, io["cached.in.z.coords"]
    out = network(SparseTensor(io["cached.in.z.feats"], level))
    yield "cached.coords", out.coords, io["cached.out.coords"]
    yield "cached.feats", out.feats, io["cached.out.feats"]


def _image_encoder(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    encoder = DinoV3FeatureExtractor(**config["args"]).eval()
    encoder.load_checkpoint_state(load_file(folder / "state_dict.safetensors"), str(folder))
    picture = Image.fromarray(io["in.image_rgba_uint8"].numpy())
    size = config["args"]["image_size"]
    resized = (picture_to_tensor(picture, size) * 255).round().permute(1, 2, 0)
    yield "resized", resized.to(torch.uint8), io["mid.resized_rgb_uint8"]
    yield "from_pil", encoder([picture]), io["out.from_pil"]
    yield "from_pil_2x", encoder([picture], image_size=2 * size), io["out.from_pil_2x"]
    yield "from_tensor", encoder(io["in.tensor"]), io["out.from_tensor"]
    yield "from_tensor_rect", encoder(io["in.tensor_rect"]), io["out.from_tensor_rect"]


def _ops(folder: Path, config: dict, io: Tensors, dtype: torch.dtype) -> Pairs:
    for width in config["args"]["rope_dims"]:
        phases = rotary_phases(io[f"rope{width}.pos"], width)
        yield f"rope{width} re", phases[..., 0], io[f"rope{width}.phase_re"]
        yield f"rope{width} im", phases[..., 1], io[f"rope{width}.phase_im"]
        yield f"rope{width}", rotate(io[f"rope{width}.x"], phases), io[f"rope{width}.out"]
    yield "ape", absolute_embedding(io["ape.pos"], config["args"]["ape_dim"]), io["ape.out"]
    rms = MultiHeadRMSNorm(*io["rms.gamma"].shape)
    rms.gamma.copy_(io["rms.gamma"])
    yield "rms", rms(io["rms.x"]), io["rms.out"]
    yield "pixel_shuffle", pixel_shuffle_3d(io["pixel_shuffle.x"]), io["pixel_shuffle.out"]
    norm = ChannelLayerNorm32(len(io["channel_ln.weight"]))
    norm.load_state_dict({k: io[f"channel_ln.{k}"] for k in ("weight", "bias")})
    yield "channel_ln", norm(io["channel_ln.x"]), io["channel_ln.out"]
    yield from _sparse_ops(io)


def _timestep(io: Tensors) -> Pairs:
    for width in (256, 7):
        yield f"timestep {width}", timestep_frequencies(io["timestep.in"], width), io[f"timestep.out{width}"]


def _sparse_ops(io: Tensors) -> Pairs:
    x = _sparse(io, "sp")
    yield "conv", submanifold_conv(x.feats, io["conv.weight"], io["conv.bias"], x.level.neighbours), io["conv.out"]
    coarse = coarsen(x.level)
    masked = subdivide(Level(x.coords), io["c2s.sub"])
    wide = SparseTensor(io["c2s.x"], Level(x.coords))
    cases = {
        "s2c": space_to_channel(x, coarse),
        "c2s_cached": channel_to_space(space_to_channel(x, coarse), subdivide(coarse, None)),
        "down_mean": average_downsample(x, coarse),
        "up_cached": nearest_upsample(average_downsample(x, coarse), subdivide(coarse, None)),
        "c2s": channel_to_space(wide, masked),
        "up": nearest_upsample(wide, masked),
    }
    for name, ours in cases.items():
        yield f"{name}.coords", ours.coords, io[f"{name}.coords"]
        yield name, ours.feats, io[f"{name}.feats"]


CHECKS = {
    "ops": _ops,
    "SparseStructureFlowModel": _structure_flow,
    "SLatFlowModel": _latent_flow,
    "SparseStructureEncoder": _structure_encoder,
    "SparseStructureDecoder": _structure_decoder,
    "SparseUnetVaeEncoder": _sparse_encoder,
    "FlexiDualGridVaeEncoder": _sparse_encoder,
    "FlexiDualGridVaeDecoder": _shape_decoder,
    "SparseUnetVaeDecoder": _texture_decoder,
    "DinoV3FeatureExtractor": _image_encoder,
}
