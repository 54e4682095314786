# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be installed: the server's wheel and its pinned packages, which the extension carries beside its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from genesis_server.protocol.errors import ErrorCode, GenesisError

BUNDLE_FOLDER = "bundle"  # of the extension; build_addon.py fills it
REQUIREMENTS = "requirements.txt"
SOURCE_LOCK = "requirements.lock"
_FOR_TESTS = ("pytest", "pytest-timeout", "ruff", "trimesh", "iniconfig", "pluggy")


@dataclass(frozen=True)
class Bundle:
    """What the extension brings.

    Attributes:
        server: wheel of genesis_server, or its source folder.
        requirements: pinned packages, torch among them, as lines of a requirements file.
    """

    server: Path
    requirements: tuple[str, ...]

    @property
    def torch(self) -> str:
        """The pinned release of torch, such as 2.13.0."""
        for line in self.requirements:
            if line.startswith("torch=="):
                return line.partition(";")[0].strip().removeprefix("torch==")
        raise GenesisError(
            ErrorCode.INSTALL_FAILED, "The extension's list of packages names no torch.", "Install the extension again."
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """Everything but torch."""
        return tuple(line for line in self.requirements if not line.startswith("torch=="))

    def digest(self) -> str:
        """Changes with anything in it: the release of an environment that was made from it."""
        return hashlib.sha256("\n".join((*self.requirements, self.server_digest())).encode()).hexdigest()[:32]

    def server_digest(self) -> str:
        """Changes with the server."""
        if self.server.is_dir():
            return str(self.server)
        return hashlib.sha256(self.server.read_bytes()).hexdigest()


def find_bundle(addon: Path | None = None) -> Bundle:
    """The bundle of the installed extension, or of the source folder that it runs from.

    Raises:
        GenesisError: INSTALL_FAILED where there is neither.
    """
    addon = addon or Path(__file__).resolve().parent.parent
    folder = addon / BUNDLE_FOLDER
    wheels = sorted(folder.glob("genesis_server-*.whl"))
    if wheels and (folder / REQUIREMENTS).is_file():
        return Bundle(wheels[-1], read_requirements(folder / REQUIREMENTS))
    source = addon.parent
    if (source / SOURCE_LOCK).is_file() and (source / "pyproject.toml").is_file():
        return Bundle(source, read_requirements(source / SOURCE_LOCK))
    raise GenesisError(
        ErrorCode.INSTALL_FAILED,
        f"The extension in {addon} brings no server.",
        "Install the extension again, or choose the Server Python of an environment that has it.",
    )


def read_requirements(path: Path) -> tuple[str, ...]:
    """The lines that the server needs, without remarks and without what only tests use."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#") and line.split("==")[0] not in _FOR_TESTS)
