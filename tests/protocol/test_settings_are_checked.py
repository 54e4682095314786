# SPDX-License-Identifier: Apache-2.0
"""Every setting is read from what was typed or sent, and refused by name where it cannot be."""

from __future__ import annotations

import pytest

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings, parameter_names, parse_value


@pytest.mark.parametrize(("typed", "value"), [("true", True), ("No", False), ("1", True), ("off", False)])
def test_switches_are_typed_in_words(typed: str, value: bool) -> None:
    assert parse_value("bake.solid", typed) is value
    assert GenerateSettings().with_values({"bake.solid": parse_value("bake.solid", typed)}).bake.solid is value


def test_an_unclear_switch_is_refused() -> None:
    with pytest.raises(GenesisError, match="bake.remesh is 'maybe'"):
        parse_value("bake.remesh", "maybe")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bake.solid", 1),
        ("bake.solid", "yes"),
        ("bake.solid", None),
        ("bake.lods", 0),
        ("bake.lods", 4),
        ("bake.lods", True),
        ("bake.texture_format", "tiff"),
        ("bake.texture_format", 3),
        ("bake.faces", 0),
        ("bake.faces", 1_000_000_000),
        ("bake.texture_size", 3),
        ("bake.texture_size", 100_000),
    ],
)
def test_values_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(GenesisError) as error:
        GenerateSettings().with_values({name: value})
    assert error.value.code is ErrorCode.BAD_PARAMETER and name in error.value.message and str(value) in error.value.message


def test_settings_survive_json() -> None:
    settings = GenerateSettings().with_values({"bake.lods": 3, "bake.solid": True, "bake.texture_format": "webp", "seed": 5})
    assert GenerateSettings.from_json(settings.to_json()) == settings
    assert all(item.metadata["help"] for item in parameter_names().values())
