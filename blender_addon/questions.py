# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel wants to know of the server: cut-outs, how long a change would take, the server's state, its models.

Drawing only reads what is here. `step` asks, beside the session's own work: for what the panel shows now, once for each state
of it, and one question of a kind at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError

from . import model_facts, page
from .lazy import messages
from .preferences import MINI, preferences
from .properties import GenesisMemory
from .session import session
from .settings import flattened

if TYPE_CHECKING:
    from genesis_server.protocol.client import Received

LOOK_EVERY = 5.0  # seconds between questions about the server itself
KEPT = 200  # cut-outs and forecasts that are remembered
SETTLED = 0.4  # seconds that a setting stays as it is before its time is asked for: sliders move


@dataclass(frozen=True)
class Cutout:
    """The answer to one question about a picture: a file with the cut-out, or why there is none."""

    path: Path | None
    method: str = ""
    error: GenesisError | None = None


class Questions:
    """Answers by what was asked.

    Attributes:
        server: how the server is; None while not connected.
        models: the weights on its machine; empty while not known.
        free_bytes: on the disk that they go to.
    """

    def __init__(self) -> None:
        self.server: messages.ServerInfo | None = None
        self.models: dict[str, messages.ModelInfo] = {}
        self.free_bytes = 0
        self._cutouts: dict[str, Cutout] = {}
        self._forecasts: dict[str, messages.Forecast | None] = {}
        self._asked: set[str] = set()  # kinds under way
        self._looked = self._since = -LOOK_EVERY
        self._settling = ""
        self._network: tuple[bool | None, str] = (None, "")  # what the server was last told about it
        self._folder: Any = None  # a TemporaryDirectory

    def cutout(self, path: str, background: str) -> Cutout | None:
        """The cut-out of a picture as it is now; None while it is not known."""
        return self._cutouts.get(_cutout_key(path, background))

    def forecast(self, memory: GenesisMemory) -> messages.Forecast | None:
        """What a Regenerate would run; None while it is not known."""
        return self._forecasts.get(_forecast_key(memory))

    def model(self) -> messages.ModelInfo | None:
        """The weights of the chosen model; None while not known."""
        return self.models.get(preferences().model or MINI)

    def look_again(self) -> None:
        """Asks for the server and its models at the next step."""
        self._looked = -LOOK_EVERY

    def step(self, now: float) -> bool:
        """Asks what is not known yet about what the first window shows."""
        if not session.connected:
            self.server, self.models = None, {}
            self._asked.clear()
            self._network = (None, "")
            self.look_again()
            return False
        if now - self._looked >= LOOK_EVERY and not self._asked & {"server", "models"}:
            self._looked = now
            self._ask("server", messages.AskServer(), self._hear_server)
            self._ask("models", messages.AskModels(preferences().model), self._hear_models)
        # a timer has no active object of its own, and no window either
        window = next(iter(bpy.context.window_manager.windows), None) or bpy.context
        self._ask_cutout(window.scene)
        memory = page.shown_of(window.view_layer.objects.active)
        if memory is not None and memory.imported and not memory.job:
            self._ask_forecast(memory, now)
        return False

    def close(self) -> None:
        """Forgets everything."""
        if self._folder is not None:
            self._folder.cleanup()
        self.__init__()

    def _ask(self, kind: str, request: object, hear: object) -> None:
        def answered(item: Received) -> None:
            self._asked.discard(kind)
            hear(item)

        self._asked.add(kind)
        session.link.ask(request, answered)

    def _hear_server(self, item: Received) -> None:
        if not isinstance(item.message, messages.ServerInfo):
            return
        self.server = item.message
        wanted = 60.0 * preferences().idle_unload
        offline = None if self.server.remote else not bpy.app.online_access  # Blender's word holds on its own machine
        network = offline, preferences().token
        if "configure" not in self._asked and (abs(self.server.idle_unload - wanted) > 1.0 or network != self._network):
            self._network = network
            self._ask("configure", messages.Configure(wanted, *network), self._hear_server)

    def _hear_models(self, item: Received) -> None:
        if isinstance(item.message, messages.Models):
            self.models = {model.id: model for model in item.message.models}
            model_facts.learn(item.message.models)
            self.free_bytes = item.message.free_bytes

    def _ask_cutout(self, scene: bpy.types.Scene) -> None:
        shown = scene.genesis
        if session.link.far_file is not None or "cutout" in self._asked or not 0 <= shown.active_picture < len(shown.pictures):
            return
        picture = shown.pictures[shown.active_picture]
        path = picture.absolute()
        key = _cutout_key(path, picture.background)
        if not key or key in self._cutouts:
            return

        def hear(item: Received) -> None:
            _limit(self._cutouts)
            if isinstance(item.message, messages.CutoutMade):
                self._cutouts[key] = Cutout(self._keep(item.message.png), item.message.method)
            elif isinstance(item.message, messages.Failure):
                error = item.message.to_error()
                if error.code != ErrorCode.NOT_CONNECTED:
                    self._cutouts[key] = Cutout(None, error=error)

        self._ask("cutout", messages.CutOut(path, picture.background, preferences().model or MINI), hear)

    def _ask_forecast(self, memory: GenesisMemory, now: float) -> None:
        key = _forecast_key(memory)
        if not key or key in self._forecasts or "forecast" in self._asked:
            return
        if key != self._settling:
            self._settling, self._since = key, now
        if now - self._since < SETTLED:
            return

        def hear(item: Received) -> None:
            _limit(self._forecasts)
            self._forecasts[key] = item.message if isinstance(item.message, messages.Forecast) else None

        folder = memory.asset if memory.copy else str(Path(bpy.path.abspath(memory.asset)))
        self._ask("forecast", messages.Estimate(asset=folder, changes=flattened(memory.settings.to_settings())), hear)

    def _keep(self, png: bytes) -> Path:
        if self._folder is None:
            import tempfile  # brings the compressors, which the start should not wait for

            self._folder = tempfile.TemporaryDirectory(prefix="genesis-cutouts-")
        path = Path(self._folder.name) / f"{len(self._cutouts)}-{abs(hash(png))}.png"
        path.write_bytes(png)
        return path


def _cutout_key(path: str, background: str) -> str:
    """Empty where there is no such file."""
    try:
        return f"{path}|{Path(path).stat().st_mtime_ns}|{background}|{preferences().model}"
    except (OSError, ValueError):
        return ""


def _forecast_key(memory: GenesisMemory) -> str:
    """The asset, what it is and what it is to be; empty for settings that cannot be."""
    try:
        wanted = memory.settings.to_settings()
    except GenesisError:
        return ""
    return f"{memory.asset}|{memory.stored}|{json.dumps(wanted.to_json(), sort_keys=True)}"


def _limit(answers: dict) -> None:
    """Makes room: the oldest goes."""
    while len(answers) >= KEPT:
        del answers[next(iter(answers))]


questions = Questions()


def register() -> None:
    """Asks from now on."""
    session.on_step.append(questions.step)


def unregister() -> None:
    """Forgets everything."""
    session.on_step.remove(questions.step)
    questions.close()
