# SPDX-License-Identifier: Apache-2.0
"""Messages to frames and back: one JSON header frame, followed by one raw frame for each field of bytes that is not empty.

    {"v": 3, "kind": "submit", "id": "<request id>", "body": {...}, "frames": ["<field>", ...]}

`v`, `kind` and `id` keep their place in every version, so that two versions can at least tell each other that they differ.
A header with a field that is missing, unknown or of another type is refused as a whole; nothing received is ever evaluated.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    KINDS,
    MAX_FRAME,
    MAX_HEADER,
    MAX_ID,
    PARTS,
    Message,
)

_NAMES = {cls: name for name, cls in KINDS.items()}


def encode(message: Message, request_id: str = "") -> list[bytes]:
    """The frames of a message: the header, then its raw frames.

    Raises:
        GenesisError: BAD_PARAMETER for a value that is not finite, or that JSON does not know.
    """
    body = {item.name: getattr(message, item.name) for item in dataclasses.fields(message)}
    raw = {name: body.pop(name) for name in list(body) if isinstance(body[name], bytes)}
    raw = {name: value for name, value in raw.items() if value}
    header = {
        "v": PROTOCOL_VERSION,
        "kind": _NAMES[type(message)],
        "id": request_id,
        "body": {name: _plain(value) for name, value in body.items()},
        "frames": list(raw),
    }
    try:
        return [json.dumps(header, allow_nan=False).encode(), *raw.values()]
    except (TypeError, ValueError) as error:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"A value of the message cannot be sent: {error}.", "Give finite numbers, words or lists."
        ) from error


def decode(frames: Sequence[bytes]) -> tuple[str, Message]:
    """The request id and message of received frames.

    Raises:
        GenesisError: VERSION_MISMATCH for another protocol version, BAD_MESSAGE for anything else that is not a message.
    """
    header = _read_header(frames)
    version = header.get("v")
    if version != PROTOCOL_VERSION:
        raise GenesisError(
            ErrorCode.VERSION_MISMATCH,
            f"The other side speaks protocol version {str(version)[:20]}, this side speaks {PROTOCOL_VERSION}.",
            "Update Genesis so that the Blender extension and the server come from the same release.",
        )
    if set(header) != {"v", "kind", "id", "body", "frames"}:
        raise _bad(f"the header has the fields {', '.join(sorted(header))[:200]}")
    kind, names = header["kind"], header["frames"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise _bad(f"{str(kind)[:40]!r} is not a kind of message")
    if not isinstance(names, list) or len(names) != len(frames) - 1:
        raise _bad("the number of raw frames is not what the header says")
    cls, body = KINDS[kind], header["body"]
    if not isinstance(body, dict):
        raise _bad(f"the body of {kind} is not a group of fields")
    for name, frame in zip(names, frames[1:], strict=True):
        if not isinstance(name, str) or name in body or _hints(cls).get(name) is not bytes:
            raise _bad(f"{kind} has no raw frame {str(name)[:40]!r}")
        body[name] = frame
    return request_id_of(frames), _build(cls, body, kind)


def request_id_of(frames: Sequence[bytes]) -> str:
    """The request id of a message that may be of another version or broken; empty where there is none."""
    try:
        request_id = _read_header(frames).get("id")
    except GenesisError:
        return ""
    return request_id if isinstance(request_id, str) and len(request_id) <= MAX_ID else ""


def _read_header(frames: Sequence[bytes]) -> dict[str, Any]:
    if not frames or len(frames[0]) > MAX_HEADER or any(len(frame) > MAX_FRAME for frame in frames[1:]):
        raise _bad("its size is outside the limits")
    try:
        header = json.loads(frames[0], parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(f"its header is not JSON ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise _bad("its header is not a group of fields")
    return header


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _build(cls: type, values: Any, where: str) -> Any:
    """A `cls` from plain values whose every field has been checked against its annotation."""
    if not isinstance(values, Mapping):
        raise _bad(f"{where} is {values!r:.40}, not a group of fields")
    hints = _hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise _bad(f"{where} has no field {sorted(unknown)[0][:40]!r}")
    required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
    missing = required - set(values)
    if missing:
        raise _bad(f"{where} needs the field {sorted(missing)[0]!r}")
    return cls(**{name: _check(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _check(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _check(arguments[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_check(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return value
    if origin is None and issubclass(hint, StrEnum):
        if isinstance(value, str) and value in set(hint):
            return hint(value)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    elif origin is None and type(value) is hint:
        return value
    raise _bad(f"{where} is {value!r:.60}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad(f"{value} cannot be sent")
    return value


_HINTS: dict[type, dict[str, Any]] = {cls: typing.get_type_hints(cls) for cls in (*KINDS.values(), *PARTS)}


def _hints(cls: type) -> dict[str, Any]:
    return _HINTS[cls]


def _bad(reason: str) -> GenesisError:
    return GenesisError(ErrorCode.BAD_MESSAGE, f"A message was refused: {reason}.", "Update Genesis on both sides.")
