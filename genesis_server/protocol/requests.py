# SPDX-License-Identifier: Apache-2.0
"""What a client asks of the server: jobs, questions, and files between machines.

Paths are those of the server's machine; a client on another one sends files first and fetches results (`transfer`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genesis_server.protocol.presets import DEFAULT_PRESET

MAX_GROUP = 64  # characters of a group's name
MAX_LOG_LINES = 2000
CUTOUT_SIZE = 512  # pixels of the longer side of a cut-out that is shown, at most


@dataclass(frozen=True)
class Submit:
    """Make an asset from pictures; answered by Jobs with the new job.

    Attributes:
        pictures: absolute paths; several are views of one object.
        asset: absolute path of the `.genesis` folder, or a plain name for a new folder in the server's own place.
        model: model id: `mini`, a folder, or a Hub repository.
        preset: name of a preset, the starting point of the settings.
        changes: settings by dotted name on top of the preset, such as {"shape.guidance_strength": 5, "seed": 3}.
        backgrounds: what becomes of each picture's background, "auto", "remove" or "keep"; an empty word, or no list at all,
            means the setting `background`.
        group: jobs of one set, such as variants, carry the same word.
        previews: whether structure and bare shape are to be made visible on the way (see Preview and Watch).
    """

    pictures: tuple[str, ...]
    asset: str
    model: str = "mini"
    preset: str = DEFAULT_PRESET
    changes: dict[str, Any] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()
    group: str = ""
    previews: bool = False


@dataclass(frozen=True)
class TextureMesh:
    """New textures on a mesh that is there; answered by Jobs. The asset's model.glb is that mesh, in its place and size.

    Attributes:
        mesh: absolute path of a GLB; its texture coordinates are kept where it has them.
        others: as in Submit.
    """

    mesh: str
    pictures: tuple[str, ...]
    asset: str
    model: str = "mini"
    preset: str = DEFAULT_PRESET
    changes: dict[str, Any] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Rebake:
    """Mesh and textures again from a finished asset's folder; `changes` may name `bake.*` only. Answered by Jobs."""

    asset: str
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Regenerate:
    """An existing asset with changed settings: stages that the change does not touch are kept. Answered by Jobs.

    Attributes:
        backgrounds, group, previews: as in Submit; no list of backgrounds keeps the asset's own.
    """

    asset: str
    changes: dict[str, Any] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()
    group: str = ""
    previews: bool = False


@dataclass(frozen=True)
class Download:
    """Bring the weights of a model to the server's machine; answered by Jobs. Runs beside generations.

    Its progress is in bytes; what has arrived is kept when it is cancelled or fails, and a Retry goes on from there.
    """

    model: str


@dataclass(frozen=True)
class ListJobs:
    """All jobs in order: running, waiting as they will be done, then the newest that are over; MAX_LISTED_JOBS at most.

    Answered by Jobs.
    """


@dataclass(frozen=True)
class Status:
    """One job as it is now; answered by Jobs."""

    job: str


@dataclass(frozen=True)
class Watch:
    """Sends this client the events of a job from now on, of all jobs for an empty id; answered by Jobs as they are now.

    Attributes:
        previews: also its previews, beginning with what the running job has shown so far.
    """

    job: str = ""
    previews: bool = False


@dataclass(frozen=True)
class Unwatch:
    """Ends a Watch of the same id; answered by Done."""

    job: str = ""


@dataclass(frozen=True)
class Cancel:
    """Stops a queued or running job, keeping its finished stages; answered by Jobs at once, the end comes as an event."""

    job: str


@dataclass(frozen=True)
class Retry:
    """Queues a failed or cancelled job again, behind all others; answered by Jobs."""

    job: str


@dataclass(frozen=True)
class Move:
    """Puts a waiting job at another place among those that wait, 1 for the next to be done; answered by Jobs, all of them.

    A job that no longer waits stays as it is.
    """

    job: str
    position: int


# ---- requests: questions ----


@dataclass(frozen=True)
class Hello:
    """First request of a client; answered by Welcome."""

    client: str


@dataclass(frozen=True)
class Ping:
    """Asks whether the server still answers; answered by Done."""


@dataclass(frozen=True)
class Estimate:
    """Which stages would run and how long they would take; answered by Forecast. Nothing is changed.

    Attributes:
        asset: absolute path of an asset's folder, whose stages are looked at; empty for a new asset.
        pictures: how many, for a new asset.
        model, preset, changes: as in Submit; for an existing asset only `changes` counts.
        backgrounds: as in Regenerate.
    """

    asset: str = ""
    pictures: int = 1
    model: str = "mini"
    preset: str = DEFAULT_PRESET
    changes: dict[str, Any] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()


@dataclass(frozen=True)
class CutOut:
    """What a picture will be without its background; answered by CutoutMade. Runs beside a job, and loads no flow network.

    Attributes:
        picture: absolute path.
        background: "auto", "remove" or "keep".
        model: whose background remover is to be used.
        size: longer side of the answer in pixels, CUTOUT_SIZE at most.
    """

    picture: str
    background: str = "auto"
    model: str = "mini"
    size: int = CUTOUT_SIZE


@dataclass(frozen=True)
class AskServer:
    """How the server is: GPU, memory, model, versions; answered by ServerInfo."""


@dataclass(frozen=True)
class Configure:
    """Changes how the running server behaves; answered by ServerInfo.

    Attributes:
        idle_unload: seconds without a job after which the model leaves memory; 0 for never.
        offline: whether downloads are refused; None leaves it. A server whose own environment forbids them stays so.
        token: of the Hub's account, for downloads that ask for an accepted licence; kept in memory only. Empty for none, None
            leaves it.
    """

    idle_unload: float
    offline: bool | None = None
    token: str | None = None


@dataclass(frozen=True)
class AskModels:
    """Which weights are on the server's machine and how much is still to come; answered by Models.

    Attributes:
        model: id of one that is wanted beside those that the release knows, such as a folder; nothing is said of one that
            does not exist.
    """

    model: str = ""


@dataclass(frozen=True)
class Log:
    """The end of the server's log; answered by LogText.

    Attributes:
        lines: how many, MAX_LOG_LINES at most.
        job: only what concerns this job; empty for everything.
    """

    lines: int = 200
    job: str = ""


@dataclass(frozen=True)
class Shutdown:
    """Ends the server; a running job is queued again for the next start. Answered by Done."""


# ---- requests: files, between machines ----


@dataclass(frozen=True)
class Upload:
    """A piece of a file for the server's machine, in order; answered by Uploaded, with its path there after the last piece.

    Attributes:
        token: names the upload: letters and digits, chosen by the client.
        name: file name, whose ending is kept.
        offset, size: where the piece begins, and bytes of the whole file.
        data: the piece.
    """

    token: str
    name: str
    offset: int
    size: int
    data: bytes = b""


@dataclass(frozen=True)
class Fetch:
    """A piece of a file in the folder of a job's asset; answered by FilePart.

    Attributes:
        job: the job whose asset it is.
        file: plain file name, such as model.glb.
        offset: where the piece begins.
    """

    job: str
    file: str
    offset: int = 0


JobRequest = Submit | TextureMesh | Rebake | Regenerate | Download
Request = (
    JobRequest
    | ListJobs
    | Status
    | Watch
    | Unwatch
    | Cancel
    | Retry
    | Move
    | Hello
    | Ping
    | Estimate
    | CutOut
    | AskServer
    | Configure
    | AskModels
    | Log
    | Shutdown
    | Upload
    | Fetch
)
