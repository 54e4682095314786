# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an installation: what each is made of, and the commands of pip or uv that do it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .bundle import Bundle
from .machine import UV_PYTHON, Found
from .record import ENVIRONMENT, interpreter

BYTES = "raw"  # how pip is to tell of downloads
PACKAGES = "packages.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/"
CHECK = (
    "import json, torch, genesis_server.protocol.messages, native_ext, transformers, cv2, warp, scipy, zmq; "
    "print('checked ' + json.dumps([torch.__version__, torch.cuda.is_available()]))"
)
TORCH_SHARE = 0.8  # of the bytes of a GPU's environment; of a CPU's it is a third, which only bends the progress bar


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        digest: changes with what goes into it; a step that was done with the same is not done again.
        commands: alternatives, tried in order until one ends well.
        weight: share of the time.
        download: bytes, roughly.
    """

    name: str
    title: str
    digest: str
    commands: tuple[list[str], ...]
    weight: int
    download: float = 1.0


def make_steps(folder: Path, bundle: Bundle, found: Found, sources: Sequence[str]) -> list[Step]:
    """All steps, in order; writes the list of packages that one of them reads."""
    extra = ("triton-windows",) if found.device == "cuda" and os.name == "nt" else ()
    packages, own = (*bundle.packages, *extra), str(interpreter(folder))
    (folder / PACKAGES).write_text("\n".join([*packages, ""]), "utf-8")
    if found.uv is not None:
        make = [str(found.uv), "venv", "--clear", "--python", str(found.python or UV_PYTHON), str(folder / ENVIRONMENT)]
        install, again = [str(found.uv), "pip", "install", "--python", own, *sources], "--reinstall"
    else:
        make = [str(found.python), "-m", "venv", "--clear", str(folder / ENVIRONMENT)]
        install = [own, "-m", "pip", "install", "--no-input", "--progress-bar", BYTES, *sources]
        again = "--force-reinstall"
    torch = _torch(install, bundle.torch, found, bool(sources))
    digests = {
        # the interpreter is no ingredient: an environment that works is kept when another Python is found first
        "environment": _digest("environment"),
        "torch": _digest(bundle.torch, found.device, str(found.cuda)),
        "packages": _digest(*packages),
        "server": _digest(bundle.server_digest()),
    }
    server = [*install, "--no-deps", again, str(bundle.server)]
    return [
        Step("environment", "Making the environment", digests["environment"], (make,), 4),
        Step("torch", "Installing torch", digests["torch"], torch, 50, found.download * TORCH_SHARE),
        Step(
            "packages",
            "Installing packages",
            digests["packages"],
            ([*install, "-r", str(folder / PACKAGES)],),
            35,
            found.download * (1 - TORCH_SHARE),
        ),
        Step("server", "Installing the server", digests["server"], (server,), 4),
        Step("check", "Checking", _digest(*digests.values()), ([own, "-c", CHECK],), 7),
    ]


def _torch(install: list[str], release: str, found: Found, given: bool) -> tuple[list[str], ...]:
    """The build of torch for the device: by CUDA version from torch's own index.

    Args:
        given: whether it is said where packages come from; then nothing else is asked.
    """
    if sys.platform == "darwin" or given:
        return ([*install, f"torch=={release}"],)
    kind = f"cu{found.cuda[0]}{found.cuda[1]}" if found.cuda else "cpu"
    own_index = [*install, "--index-url", TORCH_INDEX + kind, f"torch=={release}"]
    if found.cuda:
        return (own_index,)
    # a mirror or a folder of wheels that the user has set up may have the CPU build; else torch's own index does
    return ([*install, f"torch=={release}+cpu"], own_index)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
