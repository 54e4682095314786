# SPDX-License-Identifier: Apache-2.0
"""Several pictures of one object, as a model that is aligned with the first one sees them."""

import math

import numpy as np
import torch
from PIL import Image

from genesis_server.mini.config import Sizes, build_image_encoder
from genesis_server.mini.world import World
from genesis_server.networks.image_encoder import cutout_to_tensor
from genesis_server.pipeline.conditioning import Framing, encode, framed, from_behind, mark_turn


def columns(pictures, image_size):
    """A stand-in for the encoder: one token per column, its mean brightness in every channel."""
    rows = np.stack([np.asarray(picture.convert("L").resize((4, 1)))[0] for picture in pictures])
    return torch.from_numpy(rows).float()[..., None].expand(-1, -1, 8) / 255


columns.channels = 3


def ramp():
    picture = Image.new("RGB", (4, 4))
    picture.putdata([(80 * x, 80 * x, 80 * x) for _ in range(4) for x in range(4)])
    return picture


def test_a_turntable_marks_its_pictures_and_mirrors_the_one_from_behind():
    tokens = encode(columns, [ramp(), ramp()], 4, Framing(turntable=True)).views
    assert len(tokens) == 1 and tokens[0].shape == (8, 8)
    front, back = tokens[0].split(4)
    assert torch.equal(front, columns([ramp()], 4)[0])
    assert torch.allclose(back, mark_turn(front.flip(0), torch.tensor(math.pi)))


def test_a_model_without_a_turntable_takes_pictures_one_by_one_as_they_are():
    first, second = encode(columns, [ramp(), ramp()], 4).views
    assert torch.equal(first, second)


def test_an_encoder_of_four_channels_sees_colours_and_outline_apart():
    encoder = build_image_encoder(Sizes(picture=32)).eval()
    cutout = Image.new("RGBA", (64, 64), (200, 100, 40, 0))
    cutout.paste((200, 100, 40, 255), (0, 0, 32, 64))
    pixels = cutout_to_tensor(framed(cutout, 0.25), 32)  # half the side is margin
    assert pixels.shape == (4, 32, 32)
    assert torch.allclose(pixels[:, 16, 12], torch.tensor([200, 100, 40, 255]) / 255) and (pixels[:, 16, 20] == 0).all()
    assert (pixels[:3] <= pixels[3:] + 1e-6).all() and (pixels[:, 16, :6] < 0.01).all()
    tokens = encode(encoder, [cutout], 32, Framing(border=0.25)).views[0]
    assert torch.allclose(tokens, encoder(pixels[None])[0])
    shifted = Image.composite(cutout, Image.new("RGBA", (64, 64), (9, 9, 9, 0)), cutout)  # the colour of nothing is not seen
    assert torch.allclose(tokens, encode(encoder, [shifted], 32, Framing(border=0.25)).views[0])


def test_a_mirrored_picture_from_behind_covers_what_the_front_covers():
    world = World("cpu")
    objects = world.objects(seed=5, start=0, count=6)
    turn = torch.full((6,), math.pi)
    front = world.pictures(objects, 56, 1).alpha > 127
    back = world.pictures(world.turned(objects, turn), 56, 1).alpha > 127
    assert from_behind(turn).all()

    def overlap(other):
        return ((front & other).sum((1, 2)) / (front | other).sum((1, 2))).mean()

    assert overlap(back.flip(2)) > 0.85 > overlap(back)
