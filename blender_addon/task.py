# SPDX-License-Identifier: GPL-3.0-or-later
"""One job as this Blender sees it, from the click until its result stands in the scene."""

from __future__ import annotations

import time
from dataclasses import dataclass

from genesis_server.protocol.errors import GenesisError

from .lazy import messages

DOWNLOAD = "download"  # kind of a job
UNSENT = "unsent:"  # begins the key of a job whose request the server has not answered yet

_STAGE_WORDS = {
    "cutout": "Cutting Out",
    "structure": "Structure",
    "shape": "Shape",
    "texture": "Texture",
    "voxels": "Voxels",
    "mesh": "Mesh",
    "bake": "Baking",
}


@dataclass
class Task:
    """One job of this Blender, or a request for one.

    Attributes:
        key: what meshes call it: the job's id, or `unsent:` and a random word until the server has given one.
        title: what the panel calls it.
        request: what to send, until it has been sent.
        info: the job as the server last told it.
        error: why it failed, where it did.
        heard: monotonic seconds at which `info` came.
        sequence: number of the last event; a gap means that some were lost.
        delivered: whether its result has been imported or has nowhere to go.
        cancelled: whether the user has given it up.
        unwanted: whether its folder is to go as well.
    """

    key: str
    title: str
    request: messages.JobRequest | None = None
    info: messages.JobInfo | None = None
    error: GenesisError | None = None
    heard: float = 0.0
    sequence: int = 0
    delivered: bool = False
    cancelled: bool = False
    unwanted: bool = False

    @property
    def waits_for_import(self) -> bool:
        """Whether the server is done with it and this side is not."""
        return self.info is not None and self.info.state.over and not self.delivered and self.error is None

    @property
    def under_way(self) -> bool:
        """Whether something is still to happen by itself."""
        if self.error is not None or self.delivered:
            return False
        return self.info is None or not self.info.state.over or self.info.state == messages.JobState.FINISHED

    @property
    def running(self) -> bool:
        """Whether the server is at work on it."""
        return self.error is None and self.info is not None and self.info.state == messages.JobState.RUNNING

    @property
    def queued(self) -> bool:
        """Whether the server has it and has not begun."""
        return self.error is None and self.info is not None and self.info.state == messages.JobState.QUEUED

    @property
    def fraction(self) -> float:
        """Overall progress, 0..1."""
        return self.info.fraction if self.info is not None else 0.0

    @property
    def seconds_left(self) -> float:
        """Until the result is here, as far as the server knows; negative where it does not."""
        if self.info is None or self.info.eta < 0.0:
            return -1.0
        return max(0.0, self.info.eta - (time.monotonic() - self.heard))

    def words(self, connected: bool, starting: bool) -> str:
        """What is going on with it, for a progress bar."""
        info = self.info
        if self.cancelled:
            return "Cancelling"
        if info is None:
            return "Starting Server" if starting else "Sending"
        if not connected:
            return "Waiting for Server"
        left = f", {time_words(self.seconds_left)}" if self.seconds_left >= 0.0 else ""
        if info.state == messages.JobState.QUEUED:
            return f"Queued{left}"
        if info.kind == DOWNLOAD:
            return f"{_download_words(info)}{left}"
        if info.state == messages.JobState.FINISHED:
            return "Importing"
        steps = f" {info.step}/{info.steps}" if info.steps else ""
        return f"{_STAGE_WORDS.get(info.stage, 'Loading Model')}{steps}{left}"


def _download_words(info: messages.JobInfo) -> str:
    """How much has come of how much, as the server's note begins; it ends with the name of the file."""
    amount, separator, _ = info.message.partition(" GB: ")
    return f"{amount} GB" if separator else "Verifying" if info.fraction >= 1.0 else "Downloading"


def time_words(seconds: float) -> str:
    """A time as one reads it: 9 s, 3 min, 2 h."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
