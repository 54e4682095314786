# SPDX-License-Identifier: Apache-2.0
"""The sparse convolution equals the dense one read at active sites, in value and in every gradient."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from native_ext import neighbours as neighbours_module
from native_ext.neighbours import neighbour_table, refine_neighbours
from native_ext.submanifold_conv import submanifold_conv
from tests.parity.submanifold_conv import run


def random_voxels(seed: int, side: int = 7, batch: int = 2, density: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coords = (torch.rand(batch, side, side + 1, side - 2, generator=generator) < density).nonzero().int()
    order = torch.randperm(len(coords), generator=generator)
    return coords[order[coords[order, 0].sort(stable=True).indices]]


def dense_conv(feats, weight, bias, coords):
    b, x, y, z = coords.long().unbind(1)
    sides = [int(c.max()) + 1 for c in (b, x, y, z)]
    volume = feats.new_zeros(*sides, feats.shape[1]).index_put((b, x, y, z), feats).permute(0, 4, 1, 2, 3)
    return F.conv3d(volume, weight.permute(0, 4, 1, 2, 3), bias, padding=1).permute(0, 2, 3, 4, 1)[b, x, y, z]


def brute_force_table(coords: torch.Tensor) -> torch.Tensor:
    row = {tuple(c): n for n, c in enumerate(coords.tolist())}
    taps = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    table = [[row.get((b, x + i, y + j, z + k), -1) for i, j, k in taps] for b, x, y, z in coords.tolist()]
    return torch.tensor(table, dtype=torch.int32)


@pytest.mark.parametrize("grid", [True, False])
def test_neighbour_table_finds_every_neighbour(grid, monkeypatch):
    monkeypatch.setattr(neighbours_module, "_grid_pays", lambda cells, count: grid)
    coords = random_voxels(0)
    assert torch.equal(neighbour_table(coords), brute_force_table(coords))


def test_neighbour_table_of_huge_coordinates_is_64_bit_safe():
    corner = torch.tensor([[0, 2_000_000, 2_000_000, 1_000_000]], dtype=torch.int32)
    coords = torch.cat([corner, corner + torch.tensor([0, 1, -1, 1]).int()])
    table = neighbour_table(coords)
    assert table[0].tolist().count(-1) == 25 and table[0, 2 * 9 + 0 * 3 + 2] == 1


def test_neighbour_table_of_no_voxels_is_empty():
    assert neighbour_table(torch.zeros(0, 4, dtype=torch.int32)).shape == (0, 27)


def test_refined_table_equals_searched_table():
    coarse = random_voxels(1)
    mask = torch.rand(len(coarse), 8, generator=torch.Generator().manual_seed(2)) < 0.6
    parent, child = mask.nonzero(as_tuple=True)
    bits = torch.stack([child & 1, child >> 1 & 1, child >> 2 & 1], 1).int()
    fine = torch.cat([coarse[parent, :1], coarse[parent, 1:] * 2 + bits], 1)
    assert torch.equal(refine_neighbours(neighbour_table(coarse), parent, child), brute_force_table(fine))


def test_convolution_equals_dense_convolution():
    coords = random_voxels(3)
    feats, weight, bias = torch.randn(len(coords), 5), torch.randn(4, 3, 3, 3, 5), torch.randn(4)
    out = submanifold_conv(feats, weight, bias, neighbour_table(coords))
    # float32 sums of 135 products in another order
    torch.testing.assert_close(out, dense_conv(feats, weight, bias, coords), atol=2e-5, rtol=1e-5)


def test_gradients_equal_those_of_the_dense_convolution():
    coords = random_voxels(4)
    table = neighbour_table(coords)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((len(coords), 3), (4, 3, 3, 3, 3), (4,))
    ]
    seed = torch.randn(len(coords), 4, dtype=torch.float64)
    ours = torch.autograd.grad((submanifold_conv(*leaves, table) * seed).sum(), leaves)
    dense = torch.autograd.grad((dense_conv(*leaves, coords) * seed).sum(), leaves)
    for a, b in zip(ours, dense, strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    coords = random_voxels(5, side=4, batch=1)
    table = neighbour_table(coords)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((len(coords), 2), (2, 3, 3, 3, 2), (2,))
    ]
    assert torch.autograd.gradcheck(lambda *args: submanifold_conv(*args, table), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    coords = random_voxels(6)
    table = neighbour_table(coords)
    feats, weight, bias = (torch.randn(shape).to(dtype) for shape in ((len(coords), 8), (8, 3, 3, 3, 8), (8,)))
    out = submanifold_conv(feats, weight, bias, table)
    exact = submanifold_conv(feats.double(), weight.double(), bias.double(), table)
    assert out.dtype == dtype
    # one rounding is half a unit in the last place; float32 accumulation adds next to nothing
    assert ((out.double() - exact).abs() <= exact.abs() * torch.finfo(dtype).eps * 0.51 + 1e-4).all()


def test_autocast_computes_in_the_autocast_type_and_returns_full_gradients():
    coords = random_voxels(7)
    table = neighbour_table(coords)
    feats = torch.randn(len(coords), 4, requires_grad=True)
    weight, bias = torch.randn(4, 3, 3, 3, 4, requires_grad=True), torch.zeros(4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = submanifold_conv(feats, weight, bias, table)
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert feats.grad.dtype == weight.grad.dtype == bias.grad.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and Triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ci, co", [(5, 4), (32, 48), (128, 256)])
def test_cuda_kernels_equal_the_reference(ci, co, dtype):
    pytest.importorskip("triton")
    coords = random_voxels(8, side=20)
    table = neighbour_table(coords)
    leaves = [torch.randn(s).to(dtype) for s in ((len(coords), ci), (co, 3, 3, 3, ci), (co,))]
    seed = torch.randn(len(coords), co).to(dtype)
    on_host = [leaf.double().requires_grad_() for leaf in leaves]
    on_device = [leaf.cuda().requires_grad_() for leaf in leaves]
    exact = submanifold_conv(*on_host, table)
    out = submanifold_conv(*on_device, table.cuda())
    exact_gradients = torch.autograd.grad(exact, on_host, seed.double())
    gradients = torch.autograd.grad(out, on_device, seed.cuda())
    # float32 sums in another order; half types round every value once (relative L2 of a rounding is eps/4)
    limit = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, truth in zip((out, *gradients), (exact, *exact_gradients), strict=True):
        assert (ours.double().cpu() - truth).norm() / truth.norm() < limit


def test_agrees_with_the_reference_gpu_operator():
    outcomes = list(run(Path(__file__).parents[1] / "data" / "native_ext"))
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert outcome.passed, str(outcome)
