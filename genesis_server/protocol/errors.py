# SPDX-License-Identifier: Apache-2.0
"""The one error type that users meet: a code, a sentence, a remedy (docs/architecture.md, "Errors").

Lives in the protocol room because both sides of the wire speak it: the server raises it, the panel draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ErrorCode(StrEnum):
    """What kind of thing went wrong; stable names that scripts and the panel may test for."""

    BAD_IMAGE = "bad_image"
    NO_FOREGROUND = "no_foreground"
    BAD_PARAMETER = "bad_parameter"
    BAD_ASSET = "bad_asset"
    NEWER_SCHEMA = "newer_schema"
    BAD_MODEL = "bad_model"
    MODEL_MISSING = "model_missing"
    GATED_MODEL = "gated_model"
    OFFLINE = "offline"
    EMPTY_STRUCTURE = "empty_structure"
    BAD_MESH = "bad_mesh"
    GPU_LOST = "gpu_lost"
    OUT_OF_MEMORY = "out_of_memory"
    GPU_UNUSABLE = "gpu_unusable"
    DISK_FULL = "disk_full"
    NO_PERMISSION = "no_permission"
    CANCELLED = "cancelled"
    BAD_MESSAGE = "bad_message"
    VERSION_MISMATCH = "version_mismatch"
    NOT_CONNECTED = "not_connected"
    PORT_TAKEN = "port_taken"
    JOB_UNKNOWN = "job_unknown"
    WORKER_LOST = "worker_lost"
    ALREADY_RUNNING = "already_running"
    NO_PYTHON = "no_python"
    INSTALL_FAILED = "install_failed"
    INTERNAL = "internal"


class Remedy(StrEnum):
    """Remedies that the panel can draw as a button; everything else is said in words only."""

    DOWNLOAD_WEIGHTS = "download_weights"
    USE_MINI = "use_mini"
    OPEN_LOG = "open_log"
    START_SERVER = "start_server"
    RETRY = "retry"
    INSTALL_SERVER = "install_server"
    ALLOW_ONLINE = "allow_online"


class GenesisError(Exception):
    """An error a user can meet.

    Args:
        code: stable identifier.
        message: one sentence of what happened, naming the offending value.
        remedy: one sentence of what to do about it.
        action: the button that carries out the remedy, where there is one.
    """

    def __init__(self, code: ErrorCode, message: str, remedy: str = "", action: Remedy | None = None) -> None:
        super().__init__(message)
        self.code = ErrorCode(code)
        self.message = message
        self.remedy = remedy
        self.action = Remedy(action) if action is not None else None

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def to_json(self) -> dict[str, str]:
        """As a plain dictionary, for messages, `--json` and the job store."""
        fields = {"code": self.code.value, "message": self.message, "remedy": self.remedy}
        if self.action is not None:
            fields["action"] = self.action.value
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, str]) -> GenesisError:
        """Inverse of `to_json`; an unknown code (a newer server's) becomes INTERNAL rather than a second error."""
        code = fields.get("code", "")
        action = fields.get("action", "")
        return cls(
            ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL,
            str(fields.get("message", "")),
            str(fields.get("remedy", "")),
            Remedy(action) if action in set(Remedy) else None,
        )
