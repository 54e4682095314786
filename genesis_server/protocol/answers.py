# SPDX-License-Identifier: Apache-2.0
"""What the server says: answers to requests, and what comes without one (events and previews of watched jobs)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from genesis_server.protocol.errors import GenesisError


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Welcome:
    """Answer to Hello.

    Attributes:
        version, pid, log: the server's release, process and log file.
        worker: "starting", "idle", "busy" or "stopped".
        remote: whether the server is on another machine, so that paths mean nothing and files are to be sent.
    """

    version: str
    pid: int
    log: str
    worker: str
    remote: bool = False


@dataclass(frozen=True)
class Done:
    """The request was carried out and has no other answer."""


@dataclass(frozen=True)
class Failure:
    """The request was refused; the error as `GenesisError.to_json` gives it."""

    error: dict[str, Any]

    def to_error(self) -> GenesisError:
        """The error to raise or draw."""
        return GenesisError.from_json(self.error)


@dataclass(frozen=True)
class JobInfo:
    """One job.

    Attributes:
        id, kind: identifier; "generate", "rebake", "regenerate", "texture_mesh" or "download".
        state: see JobState.
        asset: absolute path of the asset's folder; empty for a download.
        model: model id; empty where the asset's own is used.
        stage, step, steps, fraction: progress as in `events.Event`.
        message: the last note for the user.
        attempts: times a worker has begun it.
        error: as `GenesisError.to_json`, where it failed.
        created, started, finished: seconds since 1970; 0 where it has not happened.
        group: word that jobs of one set have in common.
        position: place among those that wait, from 1; 0 for any other job.
        eta: seconds until it will be finished, those before it included; negative where nobody knows.
    """

    id: str
    kind: str
    state: JobState
    asset: str
    model: str = ""
    stage: str = ""
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    message: str = ""
    attempts: int = 0
    error: dict[str, Any] | None = None
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    group: str = ""
    position: int = 0
    eta: float = -1.0


@dataclass(frozen=True)
class Jobs:
    """Answer to every request about jobs."""

    jobs: tuple[JobInfo, ...]


@dataclass(frozen=True)
class Forecast:
    """Answer to Estimate.

    Attributes:
        stages: what would run, in order, as `events.REPORTED_STAGES` calls it; empty where nothing would.
        seconds: expected time of each.
        measured: whether they come from earlier runs on this machine rather than from a guess.
    """

    stages: tuple[str, ...]
    seconds: tuple[float, ...]
    measured: bool


@dataclass(frozen=True)
class CutoutMade:
    """Answer to CutOut.

    Attributes:
        method: "alpha" (the picture's own), "kept", or what removed the background.
        width, height: in pixels.
        png: the object on a transparent ground, as much of the picture as will be used.
    """

    method: str
    width: int
    height: int
    png: bytes = b""


@dataclass(frozen=True)
class ServerInfo:
    """Answer to AskServer.

    Attributes:
        version, pid, log, worker, remote: as in Welcome.
        device: name of the GPU, or of the processor.
        accelerated: whether `device` is a GPU.
        memory_total, memory_free: bytes of the GPU's memory, else of the machine's; 0 while unknown.
        torch, python: versions; empty while the worker starts.
        model: id of the model that was used last; empty before the first job.
        loaded: whether it is in memory.
        idle_unload: seconds without a job after which it leaves; 0 for never.
        offline: whether downloads are refused.
        home: the server's folder.
    """

    version: str
    pid: int
    log: str
    worker: str
    remote: bool
    device: str
    accelerated: bool
    memory_total: int
    memory_free: int
    torch: str
    python: str
    model: str
    loaded: bool
    idle_unload: float
    offline: bool
    home: str


@dataclass(frozen=True)
class ModelInfo:
    """The weights of one model.

    Attributes:
        id, state: model id; "packaged", "folder", "ready", "incomplete" or "absent".
        missing_bytes: still to come, as far as is known.
        missing_files: how many.
        gated: repositories that first ask for an accepted licence.
        limits: one sentence on what it cannot do; empty where it says nothing.
        defaults: its own sampler settings by dotted name, such as {"shape.steps": 12}; empty while it is not here.
    """

    id: str
    state: str
    missing_bytes: int
    missing_files: int
    gated: tuple[str, ...]
    limits: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """Answer to AskModels.

    Attributes:
        models: those that this release knows, and the one that was asked for.
        free_bytes: on the disk that weights go to.
    """

    models: tuple[ModelInfo, ...]
    free_bytes: int


@dataclass(frozen=True)
class LogText:
    """Answer to Log: the lines, oldest first, and the file they are from (on the server's machine)."""

    text: str
    path: str


@dataclass(frozen=True)
class Uploaded:
    """Answer to Upload: bytes that have arrived, and the file's path on the server's machine once all have."""

    received: int
    path: str = ""


@dataclass(frozen=True)
class FilePart:
    """Answer to Fetch: a piece of the file, and bytes of the whole."""

    size: int
    data: bytes = b""


# ---- what comes without a request ----


@dataclass(frozen=True)
class JobEvent:
    """Something happened to a watched job.

    Attributes:
        sequence: counts the events of one job, 1, 2, ... since the server's start; a gap means that events were lost.
        kind: one of `events.EventKind`, "state" for a change of state, or "queue" for another place in the queue.
        job: the job after the event.
        seconds: time the stage took, on "stage_finished".
        thumbnail: PNG bytes of the result, when the job has finished.
    """

    sequence: int
    kind: str
    job: JobInfo
    seconds: float = 0.0
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Preview:
    """What a running job has made so far; to those who watch it with previews. Little-endian arrays, C order.

    Attributes:
        job: its id.
        kind: "voxels" after the structure stage, "mesh" after the shape stage.
        resolution: cells per axis of `coords`, which fill the box [-0.5, 0.5]^3; 0 for a mesh.
        coords: uint16 [N, 3], occupied cells x, y, z.
        vertices: float32 [V, 3], z up, as the result will be after import.
        faces: int32 [F, 3], about 20,000 at most.
    """

    job: str
    kind: str
    resolution: int
    coords: bytes = b""
    vertices: bytes = b""
    faces: bytes = b""


Answer = Welcome | Done | Failure | Jobs | Forecast | CutoutMade | ServerInfo | Models | LogText | Uploaded | FilePart
