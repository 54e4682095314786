# SPDX-License-Identifier: Apache-2.0
"""Golden cases of the pipeline room: samplers, cutouts, background removal, conditioning, cascade, whole runs on toy networks.

Each case is (name, ours, reference, largest absolute difference allowed); limits are those of the goldens' own notes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genesis_server.mesh.mesh import Mesh
from genesis_server.networks.image_encoder import load_image_encoder
from genesis_server.ovoxel.voxelize import fit_to_box
from genesis_server.pipeline.background import NetworkRemover, Removal
from genesis_server.pipeline.conditioning import Conditioning, encode
from genesis_server.pipeline.cutout import cut_out, on_black
from genesis_server.pipeline.decode import decode
from genesis_server.pipeline.flow import FlowProcess, time_schedule
from genesis_server.pipeline.latents import Latent, Sampling, seeded
from genesis_server.pipeline.mesh_surface import z_up
from genesis_server.pipeline.plan import MAX_TOKENS
from genesis_server.pipeline.samplers import SamplerParameters, flow_steps
from genesis_server.pipeline.shape import limit_tokens, sample_shape
from genesis_server.pipeline.structure import sample_structure
from genesis_server.pipeline.texture import sample_texture
from tests.parity.toys import toy_model, toy_velocity

Case = tuple[str, np.ndarray, np.ndarray, float]

SAMPLER_LIMIT = 5e-6  # latents of magnitude 1-5 after up to 50 float32 steps
FEATURE_LIMIT = 2e-5  # layer-normed features of order 1
LATENT_LIMIT = 1e-5  # whole runs: two or three samplings and two normalisations in a row
NOISE_LIMIT = 1e-6  # the same generator; identical on the same build of torch


def cases(folder: Path) -> Iterator[Case]:
    """All cases whose files lie in `folder`; small copies may hold a part of them."""
    for index, prefix in (("sampler_index.json", "sampler_"), ("multi_index.json", "sampler_")):
        if (folder / index).exists():
            for name, meta in json.loads((folder / index).read_text()).items():
                if (folder / f"{prefix}{name}.npz").exists():
                    yield from sampler_cases(folder / f"{prefix}{name}.npz", name, meta)
    if (folder / "sampler_conversions.npz").exists():
        yield from conversion_cases(folder / "sampler_conversions.npz")
    if (folder / "preprocess" / "index.json").exists():
        yield from cutout_cases(folder / "preprocess")
    if (folder / "preprocess" / "birefnet.npz").exists():
        yield from removal_cases(folder / "preprocess")
    if (folder / "dinov3_tiny").exists():
        yield from encoder_cases(folder / "dinov3_tiny")
    if (folder / "cascade.npz").exists():
        yield from cascade_cases(folder)
    if (folder / "run_index.json").exists():
        index = json.loads((folder / "run_index.json").read_text())
        for name, meta in index["runs"].items():
            if (folder / f"{name}.npz").exists():
                yield from run_cases(folder, name, index, meta)
        if (folder / "texturing" / "tex_latent.npz").exists():
            yield from texture_latent_cases(folder / "texturing" / "tex_latent.npz", index)
    if (folder / "texturing" / "texturing.npz").exists():
        yield from given_mesh_cases(folder / "texturing" / "texturing.npz")


def sampler_cases(path: Path, name: str, meta: dict[str, Any]) -> Iterator[Case]:
    """One sampler run: times, every state and prediction, every call of the network."""
    golden = np.load(path)
    calls: list[tuple[np.ndarray, np.ndarray]] = []
    rows = golden["coords"][:, 0].astype(np.int64) if "coords" in golden else None
    concat = torch.from_numpy(golden["concat"]) if "concat" in golden else None

    def velocity(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        calls.append((t.numpy(), cond.double().mean(dim=(1, 2)).numpy()))
        return toy_velocity(x, t, cond, None if rows is None else torch.from_numpy(rows), concat)

    cond = torch.from_numpy(golden["cond"])
    views = [view[None] for view in cond] if "mode" in meta else [cond]
    parameters = _parameters(meta)
    samples = None
    if rows is not None:
        starts = np.searchsorted(rows, np.arange(rows.max() + 2))
        samples = [slice(int(a), int(b)) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    steps = list(
        flow_steps(
            velocity,
            torch.from_numpy(golden["noise"]),
            views,
            torch.zeros_like(views[0]),
            parameters,
            samples,
            meta.get("mode", "stochastic"),
        )
    )
    yield f"{name}/t_seq", np.array(time_schedule(parameters.steps, parameters.rescale_t)), golden["t_seq"], 1e-15
    yield f"{name}/pred_x_t", np.stack([step.state.numpy() for step in steps]), golden["pred_x_t"], SAMPLER_LIMIT
    yield f"{name}/pred_x_0", np.stack([step.prediction.numpy() for step in steps]), golden["pred_x_0"], SAMPLER_LIMIT
    yield f"{name}/samples", steps[-1].state.numpy(), golden["samples"], SAMPLER_LIMIT
    yield f"{name}/calls", np.array(len(calls)), np.array(meta["calls"]), 0.0
    yield f"{name}/call_t", np.stack([call[0] for call in calls]), golden["call_t"], 0.0
    # means of the same tokens, summed in another order
    yield f"{name}/call_cond_mean", np.stack([call[1] for call in calls]), golden["call_cond_mean"], 1e-6


def _parameters(meta: dict[str, Any]) -> SamplerParameters:
    params = dict(meta["params"])
    if meta["sampler"].startswith("v1:"):  # TRELLIS v1 writes guidance as (1 + s) p - s n (docs/spec/pipeline.md 7.4)
        params["guidance_strength"] = 1 + params.pop("cfg_strength")
        params["guidance_interval"] = params.pop("cfg_interval")
    return SamplerParameters.from_config(meta["sampler"].removeprefix("v1:"), {"sigma_min": meta["sigma_min"]}, params)


def conversion_cases(path: Path) -> Iterator[Case]:
    """The five conversions; relative limit 1e-6."""
    golden = np.load(path)
    process = FlowProcess(float(golden["sigma_min"]))
    x_t, v, x_0, eps = (torch.from_numpy(golden[key]) for key in ("x_t", "v", "x_0", "eps"))
    for j, t in enumerate(float(value) for value in golden["t"]):
        results = {
            "eps_to_x0": process.data_from_noise(x_t, eps, t),
            "x0_to_eps": process.noise_from_data(x_t, x_0, t),
            "v_to_x0": process.data_from_velocity(x_t, v, t),
            "v_to_eps": process.noise_from_velocity(x_t, v, t),
            "x0_to_v": process.velocity_from_data(x_t, x_0, t),
        }
        for name, ours in results.items():
            reference = golden[f"{name}_{j}"]
            yield f"conversions/{name}_{j}", ours.numpy(), reference, 1e-6 * float(np.abs(reference).max())


class StoredRemover:
    """Puts a stored mask in, and keeps what it was given."""

    def __init__(self, mask: Path) -> None:
        self._mask, self.given = mask, None

    def remove(self, picture: Image.Image) -> Removal:
        """The picture with the stored mask as alpha."""
        self.given = picture
        result = picture.convert("RGBA")
        result.putalpha(Image.open(self._mask))
        return Removal(result, "stored")


def cutout_cases(folder: Path) -> Iterator[Case]:
    """Section 4 step by step, in the picture's own mode: every byte."""
    for name, meta in json.loads((folder / "index.json").read_text()).items():
        if not (folder / f"{name}.in.png").exists():
            continue
        remover = StoredRemover(folder / f"{name}.rembg_alpha.png")
        cutout = cut_out(Image.open(folder / f"{name}.in.png"), "auto", remover)
        yield f"preprocess/{name}", _pixels(on_black(cutout.picture)), _pixels(Image.open(folder / f"{name}.out.png")), 0.0
        yield f"preprocess/{name}/removed", np.array(remover.given is not None), np.array(meta["used_rembg"]), 0.0
        if remover.given is not None:
            given = Image.open(folder / f"{name}.rembg_in.png")
            yield f"preprocess/{name}/given", _pixels(remover.given), _pixels(given), 0.0


def removal_cases(folder: Path) -> Iterator[Case]:
    """The remover's wrapper around a linear stand-in for the network."""
    golden = np.load(folder / "birefnet.npz")
    a, b, c, d = (float(value) for value in golden["coeff"])
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return (a * x[:, 0] + b * x[:, 1] + c * x[:, 2] + d)[:, None]

    remover = NetworkRemover("linear", network, torch.device("cpu"))
    removed = remover.remove(Image.open(folder / "birefnet.in.png").convert("RGB"))
    # the network's input: float32 rounding of one division and one normalisation
    yield "birefnet/input_patch", seen[0][0, :, 500:516, 300:316].numpy(), golden["input_patch"], 1e-6
    yield "birefnet/out", _pixels(removed.picture), _pixels(Image.open(folder / "birefnet.out.png")), 0.0


def encoder_cases(folder: Path) -> Iterator[Case]:
    """DINOv3 features at two sizes, of an RGBA picture, and of two pictures at once."""
    golden = np.load(folder / "expected.npz")
    encoder = load_image_encoder(folder)
    picture = Image.open(folder / "image.png").convert("RGB")
    sizes = sorted(int(key.removeprefix("features_")) for key in golden if key.removeprefix("features_").isdigit())
    for size in sizes:
        yield f"dinov3/features_{size}", _features(encoder, [picture], size), golden[f"features_{size}"], FEATURE_LIMIT
    small = sizes[0]
    rgba = Image.open(folder / "image_rgba.png")
    yield "dinov3/rgba", _features(encoder, [rgba], small), golden["features_rgba_small"], FEATURE_LIMIT
    both = [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    yield "dinov3/batch", _features(encoder, both, small), golden["features_batch_small"], FEATURE_LIMIT


def cascade_cases(folder: Path) -> Iterator[Case]:
    """Refined coordinates and resolution under token limits, row order included."""
    golden = np.load(folder / "cascade.npz")
    fine = torch.from_numpy(golden["hr_coords"].astype(np.int32))
    for meta in json.loads((folder / "cascade.json").read_text()):
        if meta["array"] not in golden:
            continue
        coords, resolution = limit_tokens(fine, meta["lr_resolution"], meta["resolution"], 1024, 16, meta["max_num_tokens"])
        yield f"cascade/{meta['array']}", coords.numpy(), golden[meta["array"]].astype(np.int32), 0.0
        yield f"cascade/{meta['array']}/resolution", np.array(resolution), np.array(meta["hr_resolution"]), 0.0


def run_cases(folder: Path, name: str, index: dict[str, Any], meta: dict[str, Any]) -> Iterator[Case]:
    """One whole run on toy networks: draws, coordinates, latents, voxels, and the order in which networks are used."""
    golden = np.load(folder / f"{name}.npz")
    arguments = dict(meta["args"])
    samples = arguments.get("num_samples", 1)
    model, events, noises = toy_model(index, meta["ss_bias"], meta["low_vram"], meta["res"])
    plan = model.plan(arguments["pipeline_type"])
    generator = seeded(arguments["seed"])
    picture = Image.open(folder / "run_image.png")
    conditionings = []
    for size in plan.image_sizes:
        with model.network("image_cond_model") as encoder:
            conditionings.append(encode(encoder, [picture], size))
    sampling = {stage: Sampling(parameters) for stage, parameters in model.config.samplers.items()}
    structure = sample_structure(model, plan, conditionings, generator, sampling["structure"], samples)
    limit = arguments.get("max_num_tokens", MAX_TOKENS)
    shape = sample_shape(model, plan, structure, conditionings, generator, sampling["shape"], limit)
    texture = sample_texture(model, plan, shape, conditionings, generator, sampling["texture"])
    voxels = decode(model, shape, texture)

    yield f"{name}/res", np.array(shape.resolution), np.array(meta["res"]), 0.0
    yield f"{name}/shape_coords", shape.coords.numpy(), golden["shape_coords"].astype(np.int32), 0.0
    yield f"{name}/objects", np.array(len(voxels)), np.array(meta["num_meshes"]), 0.0
    for stage, latent in (("shape", shape), ("tex", texture)):
        feats = latent.feats.numpy()
        wide = feats.astype(np.float64)
        yield f"{name}/{stage}_mean", wide.mean(axis=0), golden[f"{stage}_mean"], LATENT_LIMIT
        yield f"{name}/{stage}_std", wide.std(axis=0), golden[f"{stage}_std"], LATENT_LIMIT
        yield f"{name}/{stage}_head", feats[:40], golden[f"{stage}_head"], LATENT_LIMIT
        yield f"{name}/{stage}_tail", feats[-40:], golden[f"{stage}_tail"], LATENT_LIMIT
    for key in (key for key in golden if key.startswith("noise_") and not key.endswith("_shape")):
        noise = noises[key.removeprefix("noise_")]
        yield f"{name}/{key}_shape", np.array(noise.shape), golden[f"{key}_shape"], 0.0
        rows = noise[0].reshape(8, 64)[:, :32] if noise.ndim == 5 else noise
        yield f"{name}/{key}", rows[: len(golden[key])].numpy(), golden[key], NOISE_LIMIT
    first = voxels[0]
    vertices = (first.coords + first.dual_vertices) / first.resolution - 0.5
    yield f"{name}/mesh0_vertices", vertices[:40].numpy(), golden["mesh0_vertices"], LATENT_LIMIT
    yield f"{name}/mesh0_attrs", first.attributes[:40].numpy(), golden["mesh0_attrs"], LATENT_LIMIT
    # the toy texture decoder stays on the latent's cells, of which the toy shape decoder's voxels are the corners
    yield f"{name}/mesh0_coords", first.coords[:40].numpy() // 16, golden["mesh0_coords"], 0.0
    yield f"{name}/events", np.array(_same_events(events, meta["events"])), np.array(True), 0.0


def _same_events(ours: list[tuple[Any, ...]], reference: list[list[Any]]) -> bool:
    """Equal but for what we leave out on purpose: hole filling is the mesh room's, and nothing ever read the decoder's flag."""
    kept = [event for event in reference if event[0] != "mesh"]
    for event in kept:
        if event[:2] == ["shape_dec", "decode"]:
            del event[2:]  # resolution and flag: our decoder gives voxels, which have no scale
        elif event[:2] == ["shape_dec", "upsample"]:
            del event[3:]
    return [list(event) for event in ours] == kept


def texture_latent_cases(path: Path, index: dict[str, Any]) -> Iterator[Case]:
    """Stage three alone, on a given shape latent."""
    golden = np.load(path)
    model, _, noises = toy_model(index, 0.0, True, 512)
    coords, feats = (torch.from_numpy(golden[key]) for key in ("coords", "shape_feats"))
    tokens = torch.full((5, 8), float(golden["cond_value"]))
    plan = model.plan("512")
    shape = Latent(coords, feats, 512)
    sampling = Sampling(model.config.samplers["texture"])
    texture = sample_texture(model, plan, shape, [Conditioning((tokens,), 512)], seeded(int(golden["seed"])), sampling)
    yield "texturing/noise", noises["tex512"].numpy(), golden["noise"], NOISE_LIMIT
    yield "texturing/latent", texture.feats.numpy(), golden["out"], LATENT_LIMIT


def given_mesh_cases(path: Path) -> Iterator[Case]:
    """How a given mesh is placed in the unit cube. Its normals are its own here, not made anew as in the published pipeline."""
    golden = np.load(path)
    vertices, faces = torch.from_numpy(golden["in_vertices"]), torch.from_numpy(golden["faces"])
    placed = fit_to_box(Mesh(torch.from_numpy(z_up(vertices.numpy())), faces.int()))
    yield "texturing/vertices", placed.vertices.numpy(), golden["out_vertices"], 1e-6


def _features(encoder: torch.nn.Module, pictures: list[Image.Image], size: int) -> np.ndarray:
    return encoder(pictures, image_size=size).numpy()


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(np.int16)
