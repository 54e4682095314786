# SPDX-License-Identifier: Apache-2.0
"""Wheels of a few lines, under the names of the large packages."""

from __future__ import annotations

from pathlib import Path

from build_addon import write_wheel

MODULES = {
    "torch": "class cuda:\n    is_available = staticmethod(lambda: False)\n__version__ = '9.9.9'\n",
    "transformers": "",
    "cv2": "",
    "warp": "",
    "scipy": "",
    "zmq": "",
}


def wheel(folder: Path, name: str, release: str, files: dict[str, str]) -> Path:
    """A pure wheel."""
    info = f"{name}-{release}.dist-info"
    content = {path: text.encode() for path, text in files.items()}
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n".encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / f"{name}-{release}-py3-none-any.whl"
    write_wheel(path, content, info)
    return path


def server_wheel(folder: Path, release: str) -> Path:
    """A server that can be imported and does nothing."""
    files = {"genesis_server/__init__.py": f"__version__ = '{release}'\n", "native_ext/__init__.py": ""}
    files |= {"genesis_server/protocol/__init__.py": "", "genesis_server/protocol/messages.py": ""}
    return wheel(folder, "genesis_server", release, files)
