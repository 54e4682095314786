# SPDX-License-Identifier: Apache-2.0
"""The messages between a client and the server: typed, versioned, capped in size; `codec` puts them on the wire.

Fields of type `bytes` travel as raw frames of their own. What there is to ask is in `requests`, what there is to say in
`answers`; this page has all names together, and the word by which each is called on the wire.
"""

from __future__ import annotations

from genesis_server.protocol.answers import (
    Answer,
    CutoutMade,
    Done,
    Failure,
    FilePart,
    Forecast,
    JobEvent,
    JobInfo,
    Jobs,
    LogText,
    ModelInfo,
    Models,
    Preview,
    ServerInfo,
    Uploaded,
    Welcome,
)
from genesis_server.protocol.answers import (
    JobState as JobState,
)
from genesis_server.protocol.requests import (
    AskModels,
    AskServer,
    Cancel,
    Configure,
    CutOut,
    Download,
    Estimate,
    Fetch,
    Hello,
    ListJobs,
    Log,
    Move,
    Ping,
    Rebake,
    Regenerate,
    Request,
    Retry,
    Shutdown,
    Status,
    Submit,
    TextureMesh,
    Unwatch,
    Upload,
    Watch,
)
from genesis_server.protocol.requests import (
    JobRequest as JobRequest,
)

MAX_HEADER = 1 << 20  # bytes; a list of 200 jobs with long errors stays below it
MAX_FRAME = 16 << 20  # bytes; a thumbnail has a few hundred thousand, a preview of 20,000 faces half a million
MAX_LISTED_JOBS = 200
MAX_ID = 64  # characters of a request id

Message = Request | Answer | JobEvent | Preview

KINDS: dict[str, type] = {
    "submit": Submit,
    "texture_mesh": TextureMesh,
    "rebake": Rebake,
    "regenerate": Regenerate,
    "download": Download,
    "list": ListJobs,
    "status": Status,
    "watch": Watch,
    "unwatch": Unwatch,
    "cancel": Cancel,
    "retry": Retry,
    "move": Move,
    "hello": Hello,
    "ping": Ping,
    "estimate": Estimate,
    "cut_out": CutOut,
    "ask_server": AskServer,
    "configure": Configure,
    "ask_models": AskModels,
    "log": Log,
    "shutdown": Shutdown,
    "upload": Upload,
    "fetch": Fetch,
    "welcome": Welcome,
    "done": Done,
    "failure": Failure,
    "jobs": Jobs,
    "forecast": Forecast,
    "cutout_made": CutoutMade,
    "server_info": ServerInfo,
    "models": Models,
    "log_text": LogText,
    "uploaded": Uploaded,
    "file_part": FilePart,
    "event": JobEvent,
    "preview": Preview,
}
PARTS = (JobInfo, ModelInfo)  # of messages, never one by themselves
