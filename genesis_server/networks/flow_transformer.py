# SPDX-License-Identifier: Apache-2.0
"""What the dense and the sparse flow model share: embedding, modulation, blocks, output (docs/spec/networks.md 4).

Image tokens are the same at every step of a sampler. `project_context` computes their keys and values for all
blocks once; the result may be passed wherever the raw tokens may. What the timestep does is one vector per block and
sample, computed once per forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genesis_server.networks.attention import BlockContext, fastest_attention
from genesis_server.networks.norms import FINAL_EPS, plain_layer_norm
from genesis_server.networks.timestep import TimestepEmbedder
from genesis_server.networks.transformer_block import ModulatedBlock, Modulation, Pending, modulations
from genesis_server.protocol.errors import ErrorCode, GenesisError

_DTYPES = {
    **dict.fromkeys(("float32", "fp32", "f32"), torch.float32),
    **dict.fromkeys(("float16", "fp16", "f16"), torch.float16),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
}


@dataclass(frozen=True)
class ProjectedContext:
    """What every block sees of the pictures.

    Attributes:
        blocks: keys and values of the tokens, or what stands for all-zero ones.
    """

    blocks: tuple[BlockContext, ...]

    def with_blind(self, other: ProjectedContext) -> ProjectedContext:
        """These samples, then those of `other`, none of which sees anything: both passes of guidance in one batch."""
        joined = zip(self.blocks, other.blocks, strict=True)
        return ProjectedContext(tuple(a._replace(constant=b.constant, blind=a.blind + b.blind) for a, b in joined))


Condition = Tensor | list[Tensor] | ProjectedContext


class FlowTransformer(nn.Module):
    """Base of `SparseStructureFlowModel` and `SLatFlowModel`; see docs/spec/networks.md 4.1 for the arguments."""

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: float = 4,
        pe_mode: str = "ape",
        rope_freq: tuple[float, float] = (1.0, 10000.0),
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        dtype: str = "float32",
        initialization: str = "scaled",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        del initialization, use_checkpoint  # training options of the published configurations
        if dtype not in _DTYPES or pe_mode not in ("ape", "rope"):
            raise GenesisError(
                ErrorCode.BAD_MODEL,
                f"A flow model has dtype {dtype!r} and pe_mode {pe_mode!r}.",
                f"Allowed are {', '.join(_DTYPES)} and 'ape', 'rope'; check the checkpoint's JSON file.",
            )
        heads = num_heads or model_channels // num_head_channels
        self.resolution = resolution
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.model_channels = model_channels
        self.cond_channels = cond_channels
        self.head_width = model_channels // heads
        self.pe_mode = pe_mode
        self.rope_freq = tuple(rope_freq)
        self.dtype = _DTYPES[dtype]
        self.t_embedder = TimestepEmbedder(model_channels)
        if share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(model_channels, 6 * model_channels))
        else:
            self.adaLN_modulation = None
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.blocks = nn.ModuleList(
            ModulatedBlock(
                model_channels,
                cond_channels,
                heads,
                mlp_ratio,
                share_mod,
                qk_rms_norm,
                qk_rms_norm_cross,
                self.dtype,
            )
            for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(model_channels, out_channels)
        if not self.out_layer.weight.is_meta:  # there, drawing nothing takes a second: it brings torch's compiler
            self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """For training from scratch: every block starts as nearly the identity and the output at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            for layer in (block.self_attn.to_out, block.cross_attn.to_out, block.mlp.mlp[2]):
                layer.weight.mul_(1 / math.sqrt(2 * len(self.blocks)))
            if not block.share_mod:
                nn.init.zeros_(block.adaLN_modulation[1].weight)
        for layer in (self.t_embedder.mlp[0], self.t_embedder.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        if self.adaLN_modulation is not None:
            nn.init.zeros_(self.adaLN_modulation[1].weight)
        nn.init.zeros_(self.out_layer.weight)

    def project_context(self, cond: Tensor | list[Tensor]) -> ProjectedContext:
        """Keys and values of the image tokens for all blocks, to be computed once per sampler run.

        An all-zero context (the unconditional pass of guidance) has equal tokens, so attention to it gives the same
        vector to every row whatever the row asks: that vector takes the place of the attention, exactly.

        Args:
            cond: `[B, Lc, Cc]`, or a list of `[Lc_b, Cc]`.
        """
        tokens, mask = pad_context(cond)
        if not tokens.any():
            return ProjectedContext(
                tuple(BlockContext(None, None, block.cross_attn.blind_output(), len(tokens)) for block in self.blocks)
            )
        return ProjectedContext(tuple(self._project(tokens, mask)))

    def _project(self, tokens: Tensor, mask: Tensor | None) -> Iterator[BlockContext]:
        """What block after block sees; made when it is asked for, so that whoever keeps none has only one in memory."""
        tokens = tokens.to(self.dtype)
        return (BlockContext(block.cross_attn.project_context(tokens), mask) for block in self.blocks)

    def both(
        self, x: Any, t: Tensor, seeing: ProjectedContext, blind: ProjectedContext, together: bool, known: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Velocities of one state under both conditions of guidance; what comes before the first picture is computed once.

        That is the embedding, the modulation and the self-attention of the first block. Not for a network whose weights are
        streamed block by block.

        Args:
            x, t, known: as the network's `forward` takes them; of a sparse state the features of x are the result's rows.
            seeing, blind: `project_context` of the image tokens, and of all-zero ones.
            together: both go through the blocks as one batch.
        """
        h, phases, mask = self._embed(x, known)
        steps = self._modulations(t)
        with fastest_attention(h.device):
            h, pending = self.blocks[0].look_around(h, None, steps[0], phases, mask)
            if not together:
                return tuple(
                    self._read(self._finish(h, pending, steps, cond.blocks, phases, mask), x) for cond in (seeing, blind)
                )
            twice = steps if len(t) == 1 else self._modulations(t.repeat(2))
            pending = Pending(pending.branch.repeat(2, 1, 1), twice[0].gate_attention)
            contexts = seeing.with_blind(blind).blocks
            first, second = self._finish(h.repeat(2, 1, 1), pending, twice, contexts, phases, mask).chunk(2)
            return self._read(first, x), self._read(second, x)

    def _embed(self, x: Any, known: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Stream `[B, L, C]` in the torso dtype, rotary phases, mask of the rows that exist."""
        raise NotImplementedError

    def _read(self, h: Tensor, x: Any) -> Tensor:
        """Velocity from the last stream."""
        raise NotImplementedError

    def _advance(self, h: Tensor, t: Tensor, cond: Condition, phases: Tensor | None, mask: Tensor | None) -> Tensor:
        """Blocks on the embedded stream `[B, L, C]` in the torso dtype."""
        contexts = cond.blocks if isinstance(cond, ProjectedContext) else self._project(*pad_context(cond))
        pending = None
        with fastest_attention(h.device):
            for block, modulation, context in zip(self.blocks, self._modulations(t), contexts, strict=True):
                _check_batch(len(h), context.samples)
                h, pending = block(h, pending, modulation, context, phases, mask)
        return pending.added_to(h)

    def _finish(
        self,
        h: Tensor,
        pending: Pending,
        steps: list[Modulation],
        contexts: Sequence[BlockContext],
        phases: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Everything after the self-attention of the first block."""
        _check_batch(len(h), contexts[0].samples)
        h, pending = self.blocks[0].look_at_pictures(h, pending, steps[0], contexts[0])
        for block, modulation, context in zip(self.blocks[1:], steps[1:], contexts[1:], strict=True):
            h, pending = block(h, pending, modulation, context, phases, mask)
        return pending.added_to(h)

    def _modulations(self, t: Tensor) -> list[Modulation]:
        """Of every block; with `share_mod` a vector of the network plus the block's own, else the block's projection."""
        vector = self.t_embedder(t)
        if self.adaLN_modulation is None:
            vector = vector.to(self.dtype)
            return modulations(torch.stack([block.adaLN_modulation(vector) for block in self.blocks]))
        own = torch.stack([block.modulation for block in self.blocks]).unsqueeze(1)
        return modulations((own + self.adaLN_modulation(vector).to(self.dtype)).to(self.dtype))

    def _output(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        """Back to the input's dtype, the affine-free norm, the output layer."""
        return self.out_layer(plain_layer_norm(h.to(dtype), FINAL_EPS))


def pad_context(cond: Tensor | list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Tokens of each sample as one `[B, Lc, Cc]` tensor and, where lengths differ, a bool mask `[B, 1, 1, Lc]`."""
    if isinstance(cond, Tensor):
        return cond, None
    tokens = nn.utils.rnn.pad_sequence(cond, batch_first=True)
    lengths = [len(c) for c in cond]
    if min(lengths) == max(lengths):
        return tokens, None
    exists = torch.arange(tokens.shape[1])[None] < torch.tensor(lengths)[:, None]
    return tokens, exists[:, None, None].to(tokens.device)


def _check_batch(samples: int, conditions: int) -> None:
    if samples != conditions:
        raise GenesisError(
            ErrorCode.INTERNAL,
            f"A flow model got {samples} samples and conditions for {conditions}.",
            "Expand the condition to one entry per sample.",
        )
