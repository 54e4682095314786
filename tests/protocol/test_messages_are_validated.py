# SPDX-License-Identifier: Apache-2.0
"""What is sent comes back equal; whatever is not exactly a message is refused as a whole."""

from __future__ import annotations

import json

import pytest

from genesis_server.protocol import PROTOCOL_VERSION, messages
from genesis_server.protocol.codec import decode, encode, request_id_of
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    MAX_FRAME,
    MAX_HEADER,
    Failure,
    Forecast,
    JobEvent,
    JobInfo,
    Jobs,
    JobState,
    ListJobs,
    ModelInfo,
    Models,
    Preview,
    Submit,
    Upload,
    Watch,
    Welcome,
)

JOB = JobInfo("a1", "generate", JobState.FAILED, "/tmp/ä.genesis", fraction=0.5, error={"code": "internal", "message": "x"})


@pytest.mark.parametrize(
    "message",
    [
        ListJobs(),
        Watch("a1", previews=True),
        Preview("a1", "mesh", 0, vertices=b"\x00" * 12, faces=b"\x01" * 12),
        Forecast(("mesh",), (1.5,), True),
        Models((ModelInfo("mini", "packaged", 0, 0, ()),), 5),
        Upload("token123", "a.png", 0, 3, b"abc"),
        Submit(("/a.png", "/b.png"), "chair", "mini", "draft", {"shape.steps": 3, "shape.guidance_interval": [0.5, 1.0]}),
        Welcome("0.1", 1, "/log", "idle"),
        Failure({"code": "internal"}),
        Jobs((JOB, JOB)),
        JobEvent(3, "step", JOB),
        JobEvent(4, "state", JOB, 0.5, b"\x00\xff"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_as_it_was(message) -> None:
    assert decode(encode(message, "id 1")) == ("id 1", message)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_a_value_that_cannot_be_sent_is_named(value: object) -> None:
    with pytest.raises(GenesisError) as caught:
        encode(Submit(("/a.png",), "chair", changes={"shape.guidance_strength": value}))
    assert caught.value.code == ErrorCode.BAD_PARAMETER


def test_bytes_travel_as_a_raw_frame() -> None:
    frames = encode(JobEvent(1, "state", JOB, thumbnail=b"\x00" * 1000))
    assert frames[1] == b"\x00" * 1000
    assert len(frames[0]) < 1000


def header(**changes) -> bytes:
    body = {"pictures": ["/a.png"], "asset": "chair", **changes.pop("body", {})}
    return json.dumps({"v": PROTOCOL_VERSION, "kind": "submit", "id": "", "body": body, "frames": [], **changes}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"kind": ["submit"]},
        {"kind": "__init__"},
        {"body": {"more": 1}},
        {"body": {"pictures": "/a.png"}},
        {"body": {"pictures": [1]}},
        {"body": {"asset": None}},
        {"body": {"asset": 1}},
        {"body": {"changes": []}},
        {"frames": ["thumbnail"]},
        {"frames": None},
    ],
    ids=str,
)
def test_a_field_that_is_unknown_or_of_another_type_is_refused(changes) -> None:
    decode([header()])
    with pytest.raises(GenesisError) as caught:
        decode([header(**changes)])
    assert caught.value.code == ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize("body", [{}, {"asset": "chair"}, [], None, "x"])
def test_a_missing_field_or_another_body_is_refused(body) -> None:
    with pytest.raises(GenesisError) as caught:
        decode([json.dumps({"v": PROTOCOL_VERSION, "kind": "submit", "id": "", "body": body, "frames": []}).encode()])
    assert caught.value.code == ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(("field", "value"), [("step", True), ("step", 1.5), ("fraction", "1"), ("state", []), ("state", "x")])
def test_numbers_and_states_are_what_they_say(field, value) -> None:
    text = json.loads(encode(JobEvent(1, "step", JOB))[0])
    text["body"]["job"][field] = value
    with pytest.raises(GenesisError) as caught:
        decode([json.dumps(text).encode()])
    assert caught.value.code == ErrorCode.BAD_MESSAGE
    assert field in caught.value.message


@pytest.mark.parametrize("frames", [[], [b"NaN"], [b" " * (MAX_HEADER + 1)], [header(), b"x" * (MAX_FRAME + 1)]])
def test_sizes_are_capped_and_numbers_finite(frames) -> None:
    with pytest.raises(GenesisError) as caught:
        decode(frames)
    assert caught.value.code == ErrorCode.BAD_MESSAGE


def test_another_version_is_told_from_a_broken_message() -> None:
    frames = [json.dumps({"v": PROTOCOL_VERSION + 1, "kind": "new", "id": "9", "whatever": 1}).encode()]
    with pytest.raises(GenesisError) as caught:
        decode(frames)
    assert caught.value.code == ErrorCode.VERSION_MISMATCH
    assert request_id_of(frames) == "9"
    assert request_id_of([b"noise"]) == ""


def test_every_kind_has_a_type_and_every_message_a_kind() -> None:
    named = set(messages.KINDS.values())
    assert named == set(messages.Request.__args__) | set(messages.Answer.__args__) | {JobEvent, Preview}
