# SPDX-License-Identifier: Apache-2.0
"""The sizes of genesis-mini: one place from which training, export and the model card take them (docs/spec/mini.md 2).

Widths are cut where a measured run showed slack: the structure autoencoder and the fine levels of the shape decoder are
not the limit, the two flows and the image encoder are. All weights together stay below 38 MB in float16, the shape
encoder (needed to texture existing meshes) included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genesis_server.networks.image_encoder import DinoV3FeatureExtractor
from genesis_server.networks.registry import build

LATENT_CHANNELS = 8  # of every latent; 8 reconstructs slightly worse than 16 but samples slightly better
UP_LEVELS = 3  # of the shape and texture autoencoders: one token is a block of 8^3 voxels
ENCODER_WIDTH = 192

# role in training -> file below ckpts/; the encoders of structure and texture serve training only and are not packaged
STEMS = {
    "structure_encoder": "ss_enc_mini",
    "structure_decoder": "ss_dec_mini",
    "structure_flow": "ss_flow_mini",
    "shape_encoder": "shape_enc_mini",
    "shape_decoder": "shape_dec_mini",
    "shape_flow": "slat_flow_img2shape_mini",
    "texture_encoder": "tex_enc_mini",
    "texture_decoder": "tex_dec_mini",
    "texture_flow": "slat_flow_imgshape2tex_mini",
}


@dataclass(frozen=True)
class Sizes:
    """What the networks are trained on; everything else follows.

    Attributes:
        resolution: O-Voxel cells per axis, a multiple of 32.
        picture: side of the encoder's picture, pixels, a multiple of 16.
    """

    resolution: int = 128
    picture: int = 224

    @property
    def latent_grid(self) -> int:
        """Side of the grid of shape and texture tokens (and of the wanted structure)."""
        return self.resolution >> UP_LEVELS

    @property
    def structure_grid(self) -> int:
        """Side of the structure decoder's output."""
        return 2 * self.latent_grid

    @property
    def structure_latent_grid(self) -> int:
        return self.structure_grid // 4

    @property
    def patches(self) -> int:
        """Patches along one side of the picture."""
        return self.picture // 16


def image_encoder_config(sizes: Sizes) -> dict[str, Any]:
    """Fields of `DINOv3ViTConfig`, as they are written to `image_encoder/config.json`."""
    return {
        "model_type": "dinov3_vit",
        "architectures": ["DINOv3ViTModel"],
        "hidden_size": ENCODER_WIDTH,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "intermediate_size": 3 * ENCODER_WIDTH,
        "patch_size": 16,
        "image_size": sizes.picture,
        "num_channels": 4,  # colours and alpha: on the published black, dark things and the outlines of drawings vanish
        "num_register_tokens": 4,
        "rope_theta": 100.0,
        "layer_norm_eps": 1e-5,
        "layerscale_value": 1.0,
        "hidden_act": "gelu",
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
        "use_gated_mlp": False,
        "drop_path_rate": 0.0,
    }


def network_config(role: str, sizes: Sizes) -> dict[str, Any]:
    """`{"name": class, "args": ...}` of a network, as written to its checkpoint's JSON."""
    name, args = _NETWORKS[role]
    return {"name": name, "args": args(sizes)}


def build_network(role: str, sizes: Sizes):
    """A network for training: float32, fresh weights."""
    import torch

    return build(network_config(role, sizes), torch.float32)


def build_image_encoder(sizes: Sizes) -> DinoV3FeatureExtractor:
    """The image encoder with fresh weights."""
    return DinoV3FeatureExtractor(image_encoder_config(sizes), sizes.picture)


# Absolute positions, not rotary ones: the frame is view-aligned, so a token must know which patch it lies behind before it
# can ask for it, and rotary phases tell tokens of equal content only how far apart they are. On a toy (grid 5^3, three
# blocks of 64) the velocity loss was .218 against .272 after 250 steps.
def _flow(resolution: int, width: int, blocks: int, heads: int, condition: int) -> dict[str, Any]:
    return {
        "resolution": resolution,
        "in_channels": LATENT_CHANNELS + condition,
        "out_channels": LATENT_CHANNELS,
        "model_channels": width,
        "cond_channels": ENCODER_WIDTH,
        "num_blocks": blocks,
        "num_heads": heads,
        "mlp_ratio": 3,
        "pe_mode": "ape",
        "share_mod": True,
        "initialization": "scaled",
        "qk_rms_norm": True,
        "qk_rms_norm_cross": True,
        "dtype": "float16",
    }


def _unet(widths: list[int], blocks: list[int], resample: str) -> dict[str, Any]:
    kind = "up_block_type" if resample == "SparseResBlockC2S3d" else "down_block_type"
    return {
        "model_channels": widths,
        "num_blocks": blocks,
        "latent_channels": LATENT_CHANNELS,
        "block_type": ["SparseConvNeXtBlock3d"] * len(widths),
        kind: [resample] * (len(widths) - 1),
        "block_args": [{} for _ in widths],
        "use_fp16": True,
    }


def _dense(widths: list[int], side: str) -> dict[str, Any]:
    return {
        side: 1,
        "latent_channels": LATENT_CHANNELS,
        "num_res_blocks": 1,
        "num_res_blocks_middle": 1,
        "channels": widths,
        "use_fp16": True,
    }


_UP, _DOWN = "SparseResBlockC2S3d", "SparseResBlockS2C3d"
_NETWORKS = {
    "structure_encoder": ("SparseStructureEncoder", lambda sizes: _dense([16, 32, 64], "in_channels")),
    "structure_decoder": ("SparseStructureDecoder", lambda sizes: _dense([48, 32, 16], "out_channels")),
    "structure_flow": ("SparseStructureFlowModel", lambda sizes: _flow(sizes.structure_latent_grid, 256, 5, 4, 0)),
    "shape_encoder": ("FlexiDualGridVaeEncoder", lambda sizes: _unet([16, 32, 64, 128], [0, 1, 1, 1], _DOWN)),
    "shape_decoder": (
        "FlexiDualGridVaeDecoder",
        lambda sizes: {"resolution": sizes.resolution, **_unet([128, 32, 32, 16], [1, 1, 1, 0], _UP)},
    ),
    "shape_flow": ("SLatFlowModel", lambda sizes: _flow(sizes.latent_grid, 192, 5, 3, 0)),
    "texture_encoder": (
        "SparseUnetVaeEncoder",
        lambda sizes: {"in_channels": 6, **_unet([64, 64, 128, 128], [0, 1, 1, 1], _DOWN)},
    ),
    "texture_decoder": (
        "SparseUnetVaeDecoder",
        lambda sizes: {"out_channels": 6, "pred_subdiv": False, **_unet([128, 32, 32, 32], [1, 1, 1, 0], _UP)},
    ),
    "texture_flow": ("SLatFlowModel", lambda sizes: _flow(sizes.latent_grid, 192, 4, 3, LATENT_CHANNELS)),
}
