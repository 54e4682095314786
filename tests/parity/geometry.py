# SPDX-License-Identifier: Apache-2.0
"""Geometry goldens (docs/spec/geometry.md 21): extraction, files, orders, sampling, closest points, mesh operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genesis_server.mesh.connectivity import edges_of, manifold_links
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.mesh.repair import first_of_duplicates, split_unlinked, with_area
from genesis_server.ovoxel.octree import encode_octree, filter_neighbor, filter_parent
from genesis_server.ovoxel.serialize import hilbert_encode, morton_encode
from genesis_server.ovoxel.surface import AlphaMode, SurfaceMaterial, TexturedSurface
from genesis_server.ovoxel.surface_attributes import surface_attributes
from genesis_server.ovoxel.texture import Texture, Wrap
from genesis_server.ovoxel.vxz_container import decode_container
from native_ext.closest_point import closest_point
from native_ext.dual_grid_mesh import centre_fans, dual_grid_quads, split_quads
from native_ext.grid_sample import sample_grid
from native_ext.mesh_dual_grid import mesh_to_dual_grid

_POSITION = 1e-6  # spec 21, section 5 and 11


def cases(folder: Path) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """(name, ours, golden, largest absolute difference) of every geometry golden in a folder."""
    for path in sorted(folder.glob("*.npz")):
        runner = _BY_FOLDER.get(folder.name, _BY_NAME.get(path.stem))
        if runner:
            arrays = {key: np.array(value) for key, value in np.load(path).items()}
            golden = {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind != "U"}
            for name, ours, theirs, limit in runner(golden):
                yield f"{path.stem} {name}", ours, theirs, limit
    if folder.name == "vxz":
        yield from _files(folder)


def _extraction(g):
    size = tuple(g["grid_size"].tolist())
    vertices = (g["coords"] + g["dual_local"]) * ((g["aabb"][1] - g["aabb"][0]) / g["grid_size"]) + g["aabb"][0]
    quads = dual_grid_quads(g["coords"], g["intersected"], size)
    s = g["split_weight"][:, 0]
    yield "vertices", vertices, g["vertices"], _POSITION
    yield "faces", split_quads(quads, torch.ones(len(quads), dtype=torch.bool)), g["faces_none"], 0
    q = s[quads]
    yield "faces by weight", split_quads(quads, q[:, 0] * q[:, 2] > q[:, 1] * q[:, 3]), g["faces_weight"], 0
    fan_vertices, fan_faces = centre_fans(vertices, quads, s)
    yield "training vertices", fan_vertices, g["train_vertices"], _POSITION
    yield "training faces", fan_faces, g["train_faces"], 0


def _dual_grid(g):
    face, boundary, regularisation = g["weights"].tolist()
    size = tuple(g["grid_size"].tolist())
    low, high = g["aabb"]
    coords, dual, flags = mesh_to_dual_grid(g["vertices"], g["faces"], low, high, size, face > 0, boundary, regularisation)
    order = _sorted(g["coords"])
    yield "cells", coords, g["coords"][order].int(), 0
    yield "flags", flags, g["intersected"][order], 0
    off = (dual + coords) * g["voxel_size"]
    exact = (off - g["dual_f64"][order]).abs().amax(1) / g["voxel_size"].max()
    yield "99.5 % of exact duals, in cells", exact.quantile(0.995), torch.tensor(0.0), 1e-4
    published = (off - g["dual"][order]).abs().amax(1) / g["voxel_size"].max()
    yield "98.5 % of published duals, in cells", published.quantile(0.985), torch.tensor(0.0).double(), 2e-3


def _attributes(g):
    low, high = g["aabb"]
    size, offset = tuple(g["grid_size"].tolist()), float(g["mip_level_offset"])
    coords, values = surface_attributes(textured_surface(g), low, high, size, offset)
    order = _sorted(g["coords"])
    yield "cells", coords, g["coords"][order].int(), 0
    for name, value in values.items():
        yield name, value, g[name][order], 2e-5
        stored = value if name != "normal" else value / 2 + 0.5
        scaled, golden = stored.double().clamp(0, 1) * 255, g[f"u8_{name}"][order]
        clear = (scaled - scaled.round()).abs() > 255e-4
        yield f"{name} as stored", scaled.to(torch.uint8)[clear], golden[clear], 0


def textured_surface(g: dict[str, Tensor]) -> TexturedSurface:
    """The input of a golden of volumetric attributes."""
    materials = []
    for number in range(int(g["num_materials"])):
        fields = {key.removeprefix(f"mat{number}_"): value for key, value in g.items() if key.startswith(f"mat{number}_")}
        arguments = {"alpha_mode": AlphaMode(int(fields.pop("alpha_mode", 0)))}
        for name in [name for name in fields if name.endswith("_tex")]:
            pixels = fields.pop(name)
            linear, wrap = bool(fields.pop(f"{name}_filter", 1)), Wrap(int(fields.pop(f"{name}_wrap", 0)))
            arguments[f"{name}ture"] = Texture(pixels if pixels.ndim == 3 else pixels[..., None], linear, wrap)
        arguments |= {name: tuple(value.tolist()) if value.ndim else float(value) for name, value in fields.items()}
        materials.append(SurfaceMaterial(**arguments))
    mesh = Mesh(g["vertices"], g["faces"])
    return TexturedSurface(mesh, g["material_id"].long(), tuple(materials), g["face_uv"], g["face_normals"])


def _sorted(coords: Tensor) -> Tensor:
    return torch.from_numpy(np.lexsort(coords.numpy().T[::-1]))


def _published_extraction(g):
    quads = dual_grid_quads(g["coords"], g["intersected"], 32)
    q = g["split_weight"][:, 0][quads]
    vertices = (g["coords"] + g["dual"]) / 32 - 0.5
    yield "vertices", vertices, g["verts_weighted"], _POSITION
    yield "faces", split_quads(quads, torch.ones(len(quads), dtype=torch.bool)), g["faces_auto"], 0
    yield "faces by weight", split_quads(quads, q[:, 0] * q[:, 2] > q[:, 1] * q[:, 3]), g["faces_weighted"], 0


def _octrees(g):
    for depth in (2, 4, 8):
        codes, values = g[f"d{depth}_code"].long().numpy(), g[f"d{depth}_attr"].numpy()
        stream = torch.frombuffer(bytearray(encode_octree(codes, depth)), dtype=torch.uint8)
        yield f"depth {depth}", stream, g[f"d{depth}_svo"], 0
        yield f"parent {depth}", torch.from_numpy(filter_parent(codes, values, depth)), g[f"d{depth}_parent"], 0
        yield f"neighbor {depth}", torch.from_numpy(filter_neighbor(codes, values, depth)), g[f"d{depth}_neighbor"], 0


def _orders(g):
    for encode, key in ((morton_encode, "z_order"), (hilbert_encode, "hilbert")):
        for order in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
            name = f"{key}_{''.join(map(str, order))}"
            yield name, encode(g["coords"][:, list(order)]).int(), g[name], 0
        for bits in (3, 6, 9, 10, 11, 12, 20):
            if (name := f"batched_b{bits}_{key}") in g:
                coords = g[f"batched_b{bits}_coords"].long()
                yield name, (encode(coords[:, 1:], bits) | coords[:, 0] << 3 * bits).to(g[name].dtype), g[name], 0


def _sampling(g):
    sides = tuple(g["shape"][2:].tolist())
    for batch in range(len(g["query"])):
        rows = g["coords"][:, 0] == batch
        values, weight = sample_grid(g["feats"][rows], g["coords"][rows, 1:], sides, g["query"][batch])
        known = g["weight_sum"][batch] > 1e-3
        yield f"values {batch}", values[known], g["trilinear"][batch][known], 1e-5
        yield f"weights {batch}", weight, g["weight_sum"][batch], 1e-5


def _closest(g):
    for name in ("sphere", "nested", "cube_rot"):
        vertices, faces = g[f"{name}_vertices"], g[f"{name}_faces"]
        distance, face, _ = closest_point(vertices, faces, g[f"{name}_points"])
        clear = g[f"{name}_second_gap"] > 1e-6
        yield f"{name} distance", distance, g[f"{name}_distance"], 1e-6
        yield f"{name} face", face[clear], g[f"{name}_face_id"][clear], 0


def _mesh_operators(g):
    if "V" in g:
        yield from _published_operators(g)
        return
    mesh = Mesh(g["nm_vertices"], g["nm_faces"])
    split = split_unlinked(mesh, manifold_links(edges_of(mesh.faces)))
    yield "split vertices", split.vertices, g["nm_split_vertices"], 0
    yield "split faces", split.faces, g["nm_split_faces"], 0
    yield "duplicates", first_of_duplicates(g["dup_faces"]), g["dup_keep"], 0
    yield "degenerate", with_area(Mesh(g["vn_vertices"], g["deg_faces"])), g["deg_keep"], 0
    yield "vertex normals", vertex_normals(Mesh(g["vn_vertices"], g["vn_faces"])), g["vn_normals"], 1e-5
    yield "edges", edges_of(g["simp_faces"]).vertices.int(), g["simp_edges"], 0


def _published_operators(g):
    mesh = Mesh(g["V"], g["F"])
    yield "closest distance", closest_point(mesh.vertices, mesh.faces, g["bvh_q"])[0], g["bvh_dist"], 2e-6  # two float32 sums
    yield "vertex normals", vertex_normals(mesh), g["vertex_normals"], 1e-5
    yield "duplicates", g["dup_F"][first_of_duplicates(g["dup_F"])], g["dup_F_out"], 0
    pinned = Mesh(g["nonman_V"], g["nonman_F"])
    split = split_unlinked(pinned, manifold_links(edges_of(pinned.faces)))
    yield "split vertices", split.vertices[split.faces.long()], g["nonman_V_out"][g["nonman_F_out"].long()], 0


def _files(folder: Path):
    golden = np.load(folder / "expected.npz")
    order = np.lexsort(golden["coord"].T)
    for path in sorted(folder.glob("*_c*.vxz")):
        coords, parts, _ = decode_container(path.read_bytes())
        ours = np.lexsort(coords.T)
        yield f"{path.stem} coord", torch.from_numpy(coords[ours]), torch.from_numpy(golden["coord"][order]), 0
        for name, values in parts.items():
            yield f"{path.stem} {name}", torch.from_numpy(values[ours]), torch.from_numpy(golden[name][order]), 0


_BY_FOLDER = {"dual_grid": _dual_grid, "dual_to_mesh": _extraction, "vol_attr": _attributes}
_BY_NAME = {
    "dual_grid_to_mesh": _published_extraction,
    "svo": _octrees,
    "serialize": _orders,
    "grid_sample": _sampling,
    "bvh_udf": _closest,
    "mesh_ops": _mesh_operators,
}
