# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that are imported when they are first used: the start of Blender should not wait for what a first job needs.

numpy, zmq and the protocol's messages are most of what the extension takes to load. Whoever uses them stands behind one of
these names; a type checker sees the modules themselves.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

_PROTOCOL = "genesis_server.protocol"


_warming: threading.Thread | None = None


class _Lazy:
    """Stands for a module until something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, item: str) -> Any:
        return getattr(importlib.import_module(self._name), item)


if TYPE_CHECKING:
    from concurrent import futures

    from genesis_server.protocol import client, launch, messages, transfer, variants

    from . import asset_mark, backend, capture, delivery, geometry, glb, glb_export, preview_mesh
else:
    client, launch, messages, transfer, variants = (
        _Lazy(f"{_PROTOCOL}.{name}") for name in ("client", "launch", "messages", "transfer", "variants")
    )
    futures = _Lazy("concurrent.futures")
    asset_mark, backend, capture, delivery, geometry, glb, glb_export, preview_mesh = (
        _Lazy(f"{__package__}.{name}")
        for name in ("asset_mark", "backend", "capture", "delivery", "geometry", "glb", "glb_export", "preview_mesh")
    )


def warm_up() -> bool:
    """Imports in the background what a first job needs, once; whether all of it is here."""
    global _warming
    if _warming is None:
        _warming = threading.Thread(target=_import_all, name="genesis-imports", daemon=True)
        _warming.start()
    return not _warming.is_alive()


def _import_all() -> None:
    for name in (f"{_PROTOCOL}.client", f"{_PROTOCOL}.launch", f"{__package__}.delivery", f"{__package__}.preview_mesh"):
        importlib.import_module(name)
