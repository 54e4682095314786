# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the server's environment from the panel: looks at the machine, installs, and says how far it is."""

from __future__ import annotations

from pathlib import Path

import bpy

from genesis_server.protocol.errors import GenesisError

from . import preferences
from .lazy import backend, futures
from .session import session

LOOK_EVERY = 2.0  # seconds between looks at what there is while nothing is installed


class Setup:
    """What there is to run the server with, and the installation that is under way.

    Attributes:
        ready: whether a Python for the server is known.
        outdated: whether what the panel has installed belongs to another release of the extension.
        found: what the installation uses; None before the machine was looked at.
        error: why there is none, or why the installation has stopped.
    """

    def __init__(self) -> None:
        self.ready = True  # until looked at, so that the card does not flash by
        self.outdated = False
        self.found: backend.Found | None = None
        self.error: GenesisError | None = None
        self.work: backend.Installation | None = None
        self._looking: futures.Future[backend.Found] | None = None
        self._pool: futures.ThreadPoolExecutor | None = None
        self._looked = -LOOK_EVERY
        self._comparing: futures.Future[bool] | None = None  # the installed release with that of the extension, once

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return self._looking is not None or (self.work is not None and self.work.status().running)

    def begin(self) -> None:
        """Looks at the machine and, where that is enough, installs; goes on where an earlier installation stopped."""
        if self.running:
            return
        self.error = None
        if session.connected and session.link.far_file is None:
            session.stop()  # Windows would not let go of its files
        online, chosen = bpy.app.online_access, preferences.preferences()
        self._looking = self._thread().submit(
            backend.look,
            preferences.backend_folder(),
            online,
            bpy.path.abspath(chosen.base_python),
            device=chosen.device,
        )
        session.touch()

    def cancel(self) -> None:
        """Stops; what has been installed is kept."""
        if self.work is not None:
            self.work.cancel()

    def log_file(self) -> str:
        """What the programs said; empty where nothing has been installed."""
        path = preferences.backend_folder() / "install.log"
        return str(path) if path.is_file() else ""

    def step(self, now: float) -> bool:
        """Goes on; true while something is under way."""
        if self._looking is not None and self._looking.done() and not session.link.stopping:
            looking, self._looking = self._looking, None
            try:
                self.found = looking.result()
                self.work = backend.Installation(preferences.backend_folder(), backend.find_bundle(), self.found)
                self.work.start()
            except GenesisError as error:
                self.error = error
        if self.work is not None and not self.work.status().running:
            self.error, self.work, self._looked = self.work.status().error, None, -LOOK_EVERY
            self._comparing = None
        if now - self._looked >= LOOK_EVERY and not session.connected:
            self._looked = now
            try:
                preferences.server_python()
                self.ready = True
            except GenesisError:
                self.ready = False
            if self._comparing is None and preferences.uses_backend():
                self._comparing = self._thread().submit(_is_outdated, preferences.backend_folder())
        if self._comparing is not None and self._comparing.done():
            self.outdated = self._comparing.result() and preferences.uses_backend()
        return self.running

    def _thread(self) -> futures.ThreadPoolExecutor:
        if self._pool is None:
            self._pool = futures.ThreadPoolExecutor(1, "genesis-setup")
        return self._pool

    def close(self) -> None:
        """Stops everything."""
        self.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self.__init__()


def _is_outdated(folder: Path) -> bool:
    """On the thread, since the server's wheel is read: whether what is installed there is not what the extension brings."""
    try:
        return backend.state_of(folder, backend.find_bundle()) == backend.State.OUTDATED
    except (GenesisError, OSError):
        return False


setup = Setup()


def register() -> None:
    """Looks from now on."""
    session.on_step.append(setup.step)


def unregister() -> None:
    """Stops."""
    session.on_step.remove(setup.step)
    setup.close()
