# SPDX-License-Identifier: Apache-2.0
"""The published weights, pinned: repositories, revisions, sizes and digests (docs/spec/pipeline.md 1)."""

from __future__ import annotations

from dataclasses import dataclass

MINI = "mini"
TRELLIS = "microsoft/TRELLIS.2-4B"
IMAGE_ENCODER = "facebook/dinov3-vitl16-pretrain-lvd1689m"
REMOVER = "briaai/RMBG-2.0"  # the published choice: gated, not for commercial use
FREE_REMOVER = "ZhengPeng7/BiRefNet"  # the same network under the MIT licence, for everybody


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository; size and sha256 are known for weights, None for small configuration files."""

    path: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Repository:
    """A Hub repository at one revision.

    Attributes:
        gated: downloads need an account that has accepted the licence.
    """

    id: str
    revision: str
    files: tuple[RemoteFile, ...]
    licence: str
    gated: bool = False


def _pair(stem: str, size: int, sha256: str) -> tuple[RemoteFile, RemoteFile]:
    return RemoteFile(f"ckpts/{stem}.json"), RemoteFile(f"ckpts/{stem}.safetensors", size, sha256)


_TRELLIS_2 = Repository(
    TRELLIS,
    "af44b45f2e35a493886929c6d786e563ec68364d",
    (
        RemoteFile("pipeline.json"),
        RemoteFile("texturing_pipeline.json"),
        *_pair("ss_flow_img_dit_1_3B_64_bf16", 2584426920, "ca01377c485bec418076d38ee80166d32dc776d744f2553b835cba1e97a7abf6"),
        *_pair(
            "slat_flow_img2shape_dit_1_3B_512_bf16",
            2584574424,
            "ec5e0917ef9b7e25ad51dffc7d19687a42019871f94239f2fa7f86264c55b70f",
        ),
        *_pair(
            "slat_flow_img2shape_dit_1_3B_1024_bf16",
            2584574424,
            "07cd0596f634c5adc1890023d16023afc5eed02fb84b22bb23aff5bf0030fbbd",
        ),
        *_pair(
            "slat_flow_imgshape2tex_dit_1_3B_512_bf16",
            2584672728,
            "8371aa1c5d13be79dcd5ddfd2cf3835e902e204dc34427169a1c702828e1a94d",
        ),
        *_pair(
            "slat_flow_imgshape2tex_dit_1_3B_1024_bf16",
            2584672728,
            "580401269059a339b8318ab9ced459a13ba63391721c83a6c383198c29e77686",
        ),
        *_pair("shape_dec_next_dc_f16c32_fp16", 948490494, "e3b718d3e43e4f8780e9a24ac6fff231811a67e3b058e336e10fe654c911d581"),
        *_pair("tex_dec_next_dc_f16c32_fp16", 948458812, "97ea69addea2ecd9312910f5f548234665eef51c088386180b7cd5b258645e3c"),
        *_pair("shape_enc_next_dc_f16c32_fp16", 708797208, "f37c5ff5b983b68e9946060000f09bc131f3e84318a2c8b7430a81e4b4636c41"),
    ),
    "MIT",
)
_STRUCTURE_DECODER = Repository(
    "microsoft/TRELLIS-image-large",
    "25e0d31ffbebe4b5a97464dd851910efc3002d96",
    _pair("ss_dec_conv3d_16l8_fp16", 147591972, "1c76d4a40519aa2d711cc263a8404105231ac26db31d946bed48b84fee79009a"),
    "MIT",
)
_IMAGE_ENCODER = Repository(
    IMAGE_ENCODER,
    "ea8dc2863c51be0a264bab82070e3e8836b02d51",
    (
        RemoteFile("config.json"),
        RemoteFile("model.safetensors", 1212559808, "dcb2e45127cccbf1601e5f42fef165eea275c8e5213197e8dcf3f48822718179"),
    ),
    "DINOv3 licence (Meta)",
    gated=True,
)
_REMOVER = Repository(
    REMOVER,
    "5df4c9c76d8170882c34f6986e848ee07fd0ba43",
    (RemoteFile("model.safetensors", None, "566ed80c3d95f87ada6864d4cbe2290a1c5eb1c7bb0b123e984f60f76b02c3a7"),),
    "CC BY-NC 4.0",
    gated=True,
)
# its full commit is not known here: the newest is taken, and checked against the digest that the Hub gives for it
_FREE_REMOVER = Repository(FREE_REMOVER, "main", (RemoteFile("model.safetensors"),), "MIT")

# model id -> every repository it needs; gated ones first, so that a missing permission shows before gigabytes have come
CATALOG: dict[str, tuple[Repository, ...]] = {
    TRELLIS: (_IMAGE_ENCODER, _STRUCTURE_DECODER, _TRELLIS_2),
    REMOVER: (_REMOVER,),
    FREE_REMOVER: (_FREE_REMOVER,),
}


def pinned_revision(repository: str) -> str:
    """The pinned commit of a repository, or `main` for one that this table does not know."""
    known = {item.id: item.revision for repositories in CATALOG.values() for item in repositories}
    return known.get(repository, "main")
