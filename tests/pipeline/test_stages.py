# SPDX-License-Identifier: Apache-2.0
"""Plans, several samples, several views, cascades and empty structures, on a tiny model with random weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from genesis_server.pipeline.conditioning import Conditioning, encode
from genesis_server.pipeline.decode import decode
from genesis_server.pipeline.latents import Latent, Sampling, seeded
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.pipeline.plan import make_plan
from genesis_server.pipeline.shape import limit_tokens, sample_shape, skip_shape_noise
from genesis_server.pipeline.structure import sample_structure, structure_noise
from genesis_server.pipeline.texture import sample_texture
from genesis_server.protocol.errors import ErrorCode, GenesisError

OFFICIAL = [f"{prefix}_slat_flow_model_{size}" for prefix in ("shape", "tex") for size in (512, 1024)]


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return Model.load(str(tiny_model), "cpu")


def conditioning(model: Model, colours: tuple[str, ...] = ("red",)) -> list[Conditioning]:
    with model.network(ENCODER) as encoder:
        return [encode(encoder, [Image.new("RGB", (40, 40), colour) for colour in colours], 32)]


def sampling(model: Model, stage: str, **keywords: object) -> Sampling:
    return Sampling(model.config.samplers[stage], **keywords)


def run(model: Model, seed: int, samples: int = 1, colours: tuple[str, ...] = ("red",)) -> tuple[Latent, Latent]:
    tokens, generator, plan = conditioning(model, colours), seeded(seed), model.plan()
    structure = sample_structure(model, plan, tokens, generator, sampling(model, "structure"), samples)
    shape = sample_shape(model, plan, structure, tokens, generator, sampling(model, "shape"))
    return shape, sample_texture(model, plan, shape, tokens, generator, sampling(model, "texture"))


@pytest.mark.parametrize(
    ("pipeline_type", "grid", "passes", "texture", "sizes"),
    [
        ("512", 32, ((512, 512),), 512, (512,)),
        ("1024", 64, ((1024, 1024),), 1024, (512, 1024)),
        ("1024_cascade", 32, ((512, 512), (1024, 1024)), 1024, (512, 1024)),
        ("1536_cascade", 32, ((512, 512), (1024, 1024)), 1024, (512, 1024)),
    ],
)
def test_published_types_mean_what_is_published(
    pipeline_type: str, grid: int, passes: tuple, texture: int, sizes: tuple[int, ...]
) -> None:
    plan = make_plan(pipeline_type, dict.fromkeys(OFFICIAL), 16, None)
    assert plan.grid == grid and plan.structure_size == 512
    assert tuple((item.resolution, item.image_size) for item in plan.shape) == passes
    assert plan.texture.role == f"tex_slat_flow_model_{texture}" and plan.image_sizes == sizes
    assert plan.resolution == int(pipeline_type.split("_")[0])


@pytest.mark.parametrize("pipeline_type", ["2048", "512_cascade", "1030_cascade", "", "big", "-512"])
def test_types_without_networks_are_refused_with_those_there_are(pipeline_type: str) -> None:
    with pytest.raises(GenesisError) as caught:
        make_plan(pipeline_type, dict.fromkeys(OFFICIAL), 16, None)
    assert caught.value.code == ErrorCode.BAD_PARAMETER
    assert "512, 1024, 1024_cascade, 1536_cascade" in caught.value.remedy


def test_the_token_limit_ends_at_the_lowest_resolution_even_off_the_grid_of_steps() -> None:
    fine = torch.cat([torch.zeros(500, 1), torch.randint(0, 128, (500, 3))], dim=1).int()
    coords, resolution = limit_tokens(fine, 128, 200, 128, 8, 1)
    assert resolution == 128 and int(coords.max()) < 16


def test_the_same_seed_gives_the_same_bits(model: Model) -> None:
    first, second, other = run(model, 3), run(model, 3), run(model, 4)
    assert all(torch.equal(a.feats, b.feats) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].coords, other[0].coords) or not torch.equal(first[0].feats, other[0].feats)


def test_sampling_leaves_the_process_wide_generator_alone(model: Model) -> None:
    run(model, 3)  # loads the networks, whose initial values are drawn before the file replaces them
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    run(model, 3)
    assert torch.equal(torch.randn(3), expected)


def test_several_samples_of_one_picture_decode_to_as_many_objects(model: Model) -> None:
    shape, texture = run(model, 3, samples=3)
    objects = decode(model, shape, texture)
    assert len(objects) == 3 and all(len(item.coords) for item in objects)
    assert all(item.attributes.shape == (len(item.coords), 6) for item in objects)
    assert all(int(item.coords.max()) < 32 and item.resolution == 32 for item in objects)


def test_later_noise_is_the_same_whether_earlier_stages_ran_or_were_stored(model: Model) -> None:
    tokens, plan = conditioning(model), model.plan()
    shape, texture = run(model, 3)
    generator = seeded(3)
    structure_noise(model, generator)
    structure = sample_structure(model, plan, tokens, seeded(3), sampling(model, "structure"))
    skip_shape_noise(model, plan, structure, shape, generator)
    again = sample_texture(model, plan, shape, tokens, generator, sampling(model, "texture"))
    assert torch.equal(again.feats, texture.feats)


def test_the_structure_most_like_the_others_is_taken(model: Model) -> None:
    plan, tokens = model.plan(), conditioning(model)
    model.config = dataclasses.replace(model.config, structure_samples=3)
    taken = sample_structure(model, plan, tokens, seeded(5), sampling(model, "structure"), 2)
    model.config = dataclasses.replace(model.config, structure_samples=1)
    single = sample_structure(model, plan, tokens, seeded(5), sampling(model, "structure"), 6)
    cells = [set(map(tuple, single.coords[single.coords[:, 0] == index, 1:].tolist())) for index in range(6)]
    for number, drawn in enumerate((cells[:3], cells[3:])):
        likeness = [sum(len(a & b) / len(a | b) for b in drawn) for a in drawn]
        best = drawn[likeness.index(max(likeness))]
        assert set(map(tuple, taken.coords[taken.coords[:, 0] == number, 1:].tolist())) == best
        assert len({len(each) for each in drawn}) > 1  # they do differ
    model.config = dataclasses.replace(model.config, structure_samples=3)
    other = sampling(model, "structure").parameters.replace({"steps": sampling(model, "structure").parameters.steps + 1})
    hurried = sample_structure(model, plan, tokens, seeded(5), Sampling(other), 2)
    model.config = dataclasses.replace(model.config, structure_samples=1)
    single = sample_structure(model, plan, tokens, seeded(5), Sampling(other), 6)
    for number in (0, 1):  # the first of each three
        assert torch.equal(
            hurried.coords[hurried.coords[:, 0] == number, 1:], single.coords[single.coords[:, 0] == 3 * number, 1:]
        )


@pytest.mark.parametrize("mode", ["stochastic", "multidiffusion"])
def test_several_views_change_the_result_and_equal_views_do_not(model: Model, mode: str) -> None:
    def structure_latents(colours: tuple[str, ...]) -> torch.Tensor:
        tokens, plan = conditioning(model, colours), model.plan()
        structure = sample_structure(model, plan, tokens, seeded(1), sampling(model, "structure"))
        return sample_shape(model, plan, structure, tokens, seeded(2), sampling(model, "shape", multi_view=mode)).feats

    one, same, mixed = (structure_latents(colours) for colours in (("red",), ("red", "red"), ("red", "white")))
    assert torch.allclose(one, same, atol=1e-5)  # (p + p) / 2 rounds
    assert one.shape != mixed.shape or not torch.allclose(one, mixed, atol=1e-4)


def test_an_empty_structure_is_an_error_that_suggests_another_seed(model: Model) -> None:
    with model.network("sparse_structure_decoder") as decoder:
        decoder.out_layer[2].bias -= 1000
    with pytest.raises(GenesisError) as caught:
        run(model, 0)
    assert caught.value.code == ErrorCode.EMPTY_STRUCTURE and "seed" in caught.value.remedy


def test_cancelling_at_a_step_leaves_networks_usable(model: Model) -> None:
    def stop(step: int, steps: int) -> None:
        raise GenesisError(ErrorCode.CANCELLED, "Cancelled.")

    tokens, plan = conditioning(model), model.plan()
    with pytest.raises(GenesisError):
        sample_structure(model, plan, tokens, seeded(0), sampling(model, "structure", on_step=stop))
    run(model, 0)


def test_both_passes_of_a_cascade_count_as_one_row_of_steps() -> None:
    told: list[tuple[int, int]] = []
    whole = Sampling(None, on_step=lambda step, steps: told.append((step, steps)))
    for index in range(2):
        whole.part(index, 2).on_step(1, 3)
    assert told == [(1, 6), (4, 6)]
