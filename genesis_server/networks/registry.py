# SPDX-License-Identifier: Apache-2.0
"""Networks by the class names of checkpoint files, and strict loading (docs/spec/networks.md 1, 2.1).

A checkpoint is `X.json` (`{"name": class, "args": {...}}`) beside `X.safetensors`. Class names come from a closed
table; a parameter that is missing, unexpected or of another shape is an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from genesis_server.networks.dual_grid_vae import FlexiDualGridVaeDecoder, FlexiDualGridVaeEncoder
from genesis_server.networks.latent_flow import SLatFlowModel
from genesis_server.networks.sparse_unet import SparseUnetVaeDecoder, SparseUnetVaeEncoder
from genesis_server.networks.structure_flow import SparseStructureFlowModel
from genesis_server.networks.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from genesis_server.networks.weight_file import read_to_device, read_to_host
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

NETWORKS: dict[str, type[nn.Module]] = {
    "SparseStructureFlowModel": SparseStructureFlowModel,
    "SLatFlowModel": SLatFlowModel,
    "ElasticSLatFlowModel": SLatFlowModel,  # the name in training configurations
    "SparseStructureEncoder": SparseStructureEncoder,
    "SparseStructureDecoder": SparseStructureDecoder,
    "SparseUnetVaeEncoder": SparseUnetVaeEncoder,
    "SparseUnetVaeDecoder": SparseUnetVaeDecoder,
    "FlexiDualGridVaeEncoder": FlexiDualGridVaeEncoder,
    "FlexiDualGridVaeDecoder": FlexiDualGridVaeDecoder,
}
_FLOWS = (SparseStructureFlowModel, SLatFlowModel)
_RECOMPUTED = ("rope_phases", "pos_emb")  # tables that some files carry and that are always computed here
_NAMES_SHOWN = 5
_POINTER = b"version https://git-lfs"  # beginning of what a clone without Git LFS has in place of large files


def build(config: dict[str, Any], dtype: torch.dtype | None = None) -> nn.Module:
    """A network with fresh weights.

    Args:
        config: `{"name": class, "args": constructor arguments}`.
        dtype: torso dtype instead of the configured one; autoencoders know float16 and float32.

    Raises:
        GenesisError: BAD_MODEL for an unknown class or arguments it does not take.
    """
    name, args = config.get("name"), dict(config.get("args", {}))
    if name not in NETWORKS:
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"The checkpoint names the class {name!r}.",
            f"Known classes are {', '.join(NETWORKS)}.",
        )
    network = NETWORKS[name]
    if dtype is not None and issubclass(network, _FLOWS):
        args["dtype"] = str(dtype).removeprefix("torch.")
    elif dtype is not None:
        args["use_fp16"] = dtype == torch.float16
    try:
        return network(**args)
    except TypeError as error:
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"The arguments of {name} in the checkpoint do not fit: {error}.",
            "Use a checkpoint made for this version of the network.",
        ) from error


def load_checkpoint(
    stem: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    computes_on: torch.device | str | None = None,
) -> nn.Module:
    """A network with its stored weights, frozen, in evaluation mode.

    Args:
        stem: path of the pair without its suffixes.
        device: where the weights go, straight from the file; into pinned memory where they go to a CPU for a GPU.
        dtype: torso dtype. Default: as configured, but float32 where it computes on a CPU, on which half precision is both
            slower and less exact.
        computes_on: where it will compute, if not where its weights are kept.

    Raises:
        GenesisError: MODEL_MISSING when a file is not there, BAD_MODEL when it is damaged or does not fit.
    """
    weights_path = Path(f"{stem}.safetensors")
    device = torch.device(device)
    target = torch.device(computes_on or device)
    if dtype is None and target.type == "cpu":
        dtype = torch.float32
    network = _build_empty(Path(f"{stem}.json"), dtype)
    load_state(network, read_weights(weights_path, device, target), str(weights_path))
    return network.eval().requires_grad_(False)


def check_checkpoint(stem: str | Path) -> None:
    """Whether a pair of files belongs together and is whole; no weights are read.

    Raises:
        GenesisError: as `load_checkpoint`.
    """
    path = Path(f"{stem}.safetensors")
    network = _build_empty(Path(f"{stem}.json"), None)
    _check_shapes(_shapes(network.state_dict()), read_shapes(path), str(path))


def read_shapes(path: Path) -> dict[str, torch.Size]:
    """Shapes of all tensors of a safetensors file, from its header; a file that is cut short is an error."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _build_empty(config_path: Path, dtype: torch.dtype | None) -> nn.Module:
    """The network of a JSON file, without memory: no time is spent on initial values that the weights replace."""
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise _damaged(config_path, error) from error
    except FileNotFoundError as error:
        raise _missing(config_path) from error
    with torch.device("meta"):
        return build(config, dtype)


def read_weights(
    path: Path, device: torch.device | str = "cpu", computes_on: torch.device | str | None = None
) -> dict[str, Tensor]:
    """All tensors of a safetensors file on a device; on a CPU they are a memory map of it, or in pinned memory for a GPU."""
    device, target = torch.device(device), torch.device(computes_on or device)
    try:
        with safe_open(path, framework="pt"):  # refuses what is no such file, or not all of it
            pass
        found = None
        if target.type == "cuda":
            found = read_to_device(path, device) if device.type == "cuda" else read_to_host(path)
        return load_file(path, device=str(device)) if found is None else found
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Give a network the stored tensors, each in the dtype that the network keeps it in; `state` is used up.

    Raises:
        GenesisError: BAD_MODEL naming what is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    _check_shapes(_shapes(own), _shapes(state), source)
    # one after the other out of the dictionary: a tensor in another type than stored is not in memory twice for long
    network.load_state_dict({name: state.pop(name).to(own[name].dtype) for name in own}, assign=True)


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _check_shapes(own: dict[str, torch.Size], stored: dict[str, torch.Size], source: str) -> None:
    stored = {name: shape for name, shape in stored.items() if name.rpartition(".")[2] not in _RECOMPUTED}
    check_names(own.keys() - stored.keys(), stored.keys() - own.keys(), source)
    for name, shape in stored.items():
        if shape != own[name]:
            raise GenesisError(
                ErrorCode.BAD_MODEL,
                f"{name} in {source} has shape {tuple(shape)}, the network has {tuple(own[name])}.",
                "The weights and the JSON file beside them belong to different networks; download both again.",
                Remedy.DOWNLOAD_WEIGHTS,
            )


def check_names(missing: set[str], unexpected: set[str], source: str) -> None:
    """Refuse a file whose tensors are not exactly those of the network."""
    if not missing and not unexpected:
        return
    faults = [
        f"{kind} {', '.join(sorted(names)[:_NAMES_SHOWN])}" + (" ..." if len(names) > _NAMES_SHOWN else "")
        for kind, names in (("lacks", missing), ("has an unexpected", unexpected))
        if names
    ]
    raise GenesisError(
        ErrorCode.BAD_MODEL,
        f"{source} {' and '.join(faults)}.",
        "These weights belong to another network; download them again or correct the JSON file beside them.",
        Remedy.DOWNLOAD_WEIGHTS,
    )


def _missing(path: Path) -> GenesisError:
    return GenesisError(
        ErrorCode.MODEL_MISSING, f"There is no file {path}.", "Download the model again.", Remedy.DOWNLOAD_WEIGHTS
    )


def _damaged(path: Path, error: Exception) -> GenesisError:
    if isinstance(error, SafetensorError) and _begins_with(path, _POINTER):
        return GenesisError(
            ErrorCode.BAD_MODEL,
            f"{path} is not the weights, only Git's pointer to them.",
            "Run git lfs pull in that folder, or download the model again.",
            Remedy.DOWNLOAD_WEIGHTS,
        )
    return GenesisError(
        ErrorCode.BAD_MODEL,
        f"{path} is damaged: {error}.",
        "Delete it and download the model again.",
        Remedy.DOWNLOAD_WEIGHTS,
    )


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
