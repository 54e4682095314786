# SPDX-License-Identifier: Apache-2.0
"""Trains the shape flow and the texture flow side by side on cached tokens and latents (docs/spec/mini.md 5, 6).

The image encoder and both autoencoders are finished. Latents are kept padded to a fixed number of tokens, so that every
step has one shape and blocks can be compiled; objects with more tokens (9 % of them) are left out of training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.mini.config import build_network
from genesis_server.mini.flow_loss import drop_condition, flow_loss
from genesis_server.mini.pool import Pool
from genesis_server.mini.structure_training import compile_blocks, load_frozen, load_frozen_encoder, pair_tokens
from genesis_server.mini.supply import Supply, picture_tensor, shape_input, take_rows, texture_input
from genesis_server.mini.training import Run, Training
from genesis_server.networks.flow_transformer import FlowTransformer
from genesis_server.networks.positions import absolute_embedding
from genesis_server.sparse.tensor import Level

TOKENS = 896
CHUNK = 32  # objects encoded at once
REFRESH_STEPS = 4
MATRIX_RATE = 1.2e-3  # of Muon
# The texture flow will be given sampled shape latents, not true ones: it learns with up to this much noise on them.
SHAPE_NOISE = 0.3


def train_latent_flows(run: Run, seconds: float) -> None:
    """Phase "latent_flows"."""
    networks = {role: build_network(role, run.sizes).to(run.device) for role in ("shape_flow", "texture_flow")}
    if run.compiled:
        for network in networks.values():
            compile_blocks(network.blocks)
    training = Training(
        run, "latent_flows", networks, dict.fromkeys(networks, 2e-3), seconds, average=0.998, matrix_rate=MATRIX_RATE
    )
    pools = _Pools(run, run.seed * 10 + 4, training.step_count)
    constants = _constants(run, pools.single)
    while training.running():
        batch, second, turn = pools.batch(training.step_count)
        exists = torch.arange(TOKENS, device=run.device) < batch["count"][:, None]
        shape = (batch["shape"].float() - constants["shape_mean"]) / constants["shape_std"]
        texture = (batch["texture"].float() - constants["texture_mean"]) / constants["texture_std"]
        known = shape + SHAPE_NOISE * torch.rand(len(shape), 1, 1, device=run.device) * torch.randn_like(shape)
        mask = exists[:, None, None]
        with run.autocast():
            tokens = drop_condition(pair_tokens(batch["tokens"], second, turn))

            def velocity(role: str, x: Tensor, t: Tensor) -> Tensor:
                return padded_velocity(networks[role], x, batch["coords"], mask, t, tokens)  # noqa: B023 (called in this pass)

            shape_loss = flow_loss(lambda x, t: velocity("shape_flow", x, t), shape, exists[..., None])
            texture_loss = flow_loss(
                lambda x, t: velocity("texture_flow", torch.cat([x, known], dim=-1), t),  # noqa: B023
                texture,
                exists[..., None],
            )
        training.step(shape_loss + texture_loss, {"shape": shape_loss, "texture": texture_loss})
    training.finish()


class _Pools:
    """Tokens and latents of training objects with one picture, and of some with two.

    Args:
        seed: of the stream of objects.
        steps: done so far; a continued phase draws other objects.
    """

    def __init__(self, run: Run, seed: int, steps: int) -> None:
        self.run = run
        self.frozen = {role: load_frozen(run, role) for role in ("shape_encoder", "texture_encoder")}
        self.frozen["image_encoder"] = load_frozen_encoder(run)
        self.supply = Supply(run, seed, steps * CHUNK)
        self.single, self.paired = Pool(run.scaled(24576), run.device), Pool(run.scaled(8192), run.device)
        while self.single.size < run.scaled(3072):
            self._refresh()

    def batch(self, step: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The objects of one step, 96 with one picture and 32 with two; tokens of the second pictures and their turns."""
        if step % REFRESH_STEPS == 0:
            self._refresh()
        single, paired = self.single.sample(self.run.scaled(96)), self.paired.sample(self.run.scaled(32))
        second, turn = paired.pop("second"), paired.pop("turn")
        return {name: torch.cat([value, paired[name]]) for name, value in single.items()}, second, turn

    @torch.no_grad()
    def _refresh(self) -> None:
        run, frozen = self.run, self.frozen
        objects = self.supply.objects(run.scaled(CHUNK))
        picture, _, _ = self.supply.pictures(objects)
        voxels = self.supply.world.voxels(objects)
        level = Level(voxels.coords)
        seconds = max(1, len(picture) // 4)
        second, turn = self.supply.views(take_rows(objects, slice(seconds)))
        with run.autocast():
            tokens = frozen["image_encoder"](picture_tensor(torch.cat([picture, second]))).to(torch.bfloat16)
            shape, _ = frozen["shape_encoder"](*shape_input(voxels, level))
            texture, _ = frozen["texture_encoder"](texture_input(voxels.attributes, level))
        count = torch.bincount(shape.coords[:, 0].long(), minlength=len(picture))
        sample = shape.coords[:, 0].long()
        place = torch.arange(len(sample), device=run.device) - (count.cumsum(0) - count)[sample]
        fits = place < TOKENS

        def padded(rows: Tensor) -> Tensor:
            out = torch.zeros(len(picture), TOKENS, rows.shape[1], dtype=rows.dtype, device=run.device)
            return out.index_put((sample[fits], place[fits]), rows[fits])

        rows = {
            "tokens": tokens[: len(picture)],
            "shape": padded(shape.feats.half()),
            "texture": padded(texture.feats.half()),
            "coords": padded(shape.coords[:, 1:].to(torch.uint8)),
            "count": count,
        }
        kept = (count > 0) & (count <= TOKENS)
        self.single.add({name: value[seconds:][kept[seconds:]] for name, value in rows.items()})
        paired = {**{name: value[:seconds] for name, value in rows.items()}, "second": tokens[len(picture) :], "turn": turn}
        self.paired.add({name: value[kept[:seconds]] for name, value in paired.items()})


def padded_velocity(flow: FlowTransformer, x: Tensor, coords: Tensor, mask: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """`SLatFlowModel.forward` (absolute positions) on rows that are padded already: nothing waits for the device to count them.

    Args:
        x: `[B, L, C]`.
        coords: integer `[B, L, 3]`.
        mask: bool `[B, 1, 1, L]`.
        t: `[B]`, 1000 times the time.
        tokens: `[B, Lc, Cc]`.
    """
    h = flow.input_layer(x).to(flow.dtype) + absolute_embedding(coords, flow.model_channels)
    return flow._output(flow._advance(h, t, tokens, None, mask), x.dtype)


def _constants(run: Run, pool: Pool) -> dict[str, Tensor]:
    """Mean and standard deviation of every latent channel; stored, since `pipeline.json` needs them."""
    if run.path("normalisation").is_file():
        return run.load("normalisation")
    exists = torch.arange(TOKENS, device=run.device) < pool.column("count")[:, None]
    constants = {}
    for name in ("shape", "texture"):
        rows = pool.column(name)[exists].float()
        constants[f"{name}_mean"], constants[f"{name}_std"] = rows.mean(0), rows.std(0).clamp(min=1e-3)
    run.save("normalisation", constants)
    return constants


def normalisation(run: Run) -> dict[str, dict[str, list[float]]]:
    """The constants as `pipeline.json` writes them."""
    constants = run.load("normalisation")
    return {
        name: {kind: [round(v, 6) for v in constants[f"{name}_{kind}"].tolist()] for kind in ("mean", "std")}
        for name in ("shape", "texture")
    }
