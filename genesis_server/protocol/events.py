# SPDX-License-Identifier: Apache-2.0
"""What a running generation reports: one event per stage begun, sampler step made, stage finished, and notes on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError

# In order of work; the last two are one unit of resume (docs/architecture.md, "The asset folder").
REPORTED_STAGES = ("cutout", "structure", "shape", "texture", "voxels", "mesh", "bake")
DOWNLOAD_STAGE = "download"  # the only stage of a job that brings weights


class EventKind(StrEnum):
    """What an event says."""

    STAGE_STARTED = "stage_started"
    STEP = "step"
    STAGE_FINISHED = "stage_finished"
    NOTE = "note"


@dataclass(frozen=True)
class Event:
    """One line of progress.

    Attributes:
        kind: what happened.
        stage: one of REPORTED_STAGES, or DOWNLOAD_STAGE.
        fraction: of the whole generation, 0..1, never falling.
        step, steps: finished and total steps within the stage; 0, 0 where the stage has no steps.
        seconds: time the stage took, on STAGE_FINISHED.
        note: a sentence for the user.
        remaining: seconds until the end of the job, as far as earlier runs tell; negative where nobody knows.
    """

    kind: EventKind
    stage: str
    fraction: float = 0.0
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    note: str = ""
    remaining: float = -1.0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "kind": self.kind.value}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Event:
        """Inverse of `to_json`.

        Raises:
            GenesisError: BAD_MESSAGE for an unknown kind, stage or field.
        """
        try:
            event = cls(**{**fields, "kind": EventKind(fields["kind"])})
        except (KeyError, TypeError, ValueError) as error:
            raise GenesisError(ErrorCode.BAD_MESSAGE, f"An event could not be read: {error}.") from error
        if event.stage not in (*REPORTED_STAGES, DOWNLOAD_STAGE):
            raise GenesisError(ErrorCode.BAD_MESSAGE, f"An event names the stage {event.stage!r}, which does not exist.")
        return event
