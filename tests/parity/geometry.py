# SPDX-License-Identifier: Apache-2.0
"""Geometry goldens (docs/spec/geometry.md 21): extraction, files, orders, sampling, closest points, mesh operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from genesis_server.mesh.connectivity import edges_of, link_components, manifold_links
from genesis_server.mesh.holes import fill_holes
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.mesh.orientation import consistent_flips, flip
from genesis_server.mesh.repair import above_area, first_of_duplicates, keep_faces, split_unlinked, with_area
from genesis_server.ovoxel.octree import encode_octree, filter_neighbor, filter_parent
from genesis_server.ovoxel.serialize import hilbert_encode, morton_encode
from genesis_server.ovoxel.surface import AlphaMode, SurfaceMaterial, TexturedSurface
from genesis_server.ovoxel.surface_attributes import surface_attributes
from genesis_server.ovoxel.texture import Texture, Wrap
from genesis_server.ovoxel.vxz_container import decode_container
from native_ext.closest_point import closest_point
from native_ext.cluster_faces import Clustering, cluster_faces
from native_ext.dual_grid_mesh import centre_fans, dual_grid_quads, split_quads
from native_ext.grid_sample import sample_grid
from native_ext.mesh_dual_grid import mesh_to_dual_grid
from native_ext.narrow_band import narrow_band_surface
from native_ext.published_collapse import published_collapse
from native_ext.rasterize import rasterize

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
    edges, cost, collapsed, points, faces = published_collapse(g["simp_vertices"], g["simp_faces"], float(g["simp_threshold"]))
    yield "collapse costs, relative", cost / g["simp_cost"], torch.ones_like(g["simp_cost"]), 1e-4
    yield "collapsed edges", collapsed.int(), g["simp_collapsed"], 0
    yield "collapsed vertices", points, g["simp_out_vertices"], _POSITION
    yield "collapsed faces", faces.int(), g["simp_out_faces"], 0
    torn = Mesh(g["hole_vertices"], g["hole_faces"])
    filled = fill_holes(torn, manifold_links(edges_of(torn.faces)), float(g["hole_max_perimeter"]), clipped=0)
    new = filled.faces[len(torn.faces) :]
    yield "hole vertices", filled.vertices[len(torn.vertices) :].double(), g["hole_new_vertices"], _POSITION
    yield "hole faces, any winding", _unordered(new), _unordered(g["hole_new_faces"]), 0
    split_part = link_components(manifold_links(edges_of(mesh.faces)), len(mesh.faces))
    yield "components", split_part.int(), torch.unique(g["nm_component"], return_inverse=True)[1].int(), 0
    ours = flip(mesh.faces, consistent_flips(mesh.faces, _manifold(mesh))[1])
    golden = _turned(mesh.faces, g["nm_unified_faces"], split_part)
    yield "orientation, up to whole components", _turned(mesh.faces, ours, split_part), golden, 0


def _manifold(mesh: Mesh) -> Tensor:
    return manifold_links(edges_of(mesh.faces))


def _unordered(faces: Tensor) -> Tensor:
    """Faces as sets of vertices, ascending."""
    return torch.unique(faces.long().sort(1).values, dim=0)


def _turned(before: Tensor, after: Tensor, part: Tensor) -> Tensor:
    """bool [F], faces wound the other way round; within each part relative to its first face."""
    first, second = (faces.long() for faces in (before, after))
    same = torch.stack([(first.roll(turn, 1) == second).all(1) for turn in range(3)]).any(0)
    head = torch.full((int(part.max()) + 1,), len(part)).scatter_reduce_(0, part, torch.arange(len(part)), "amin")
    return same ^ same[head[part]]


def _published_operators(g):
    mesh = Mesh(g["V"], g["F"])
    yield "closest distance", closest_point(mesh.vertices, mesh.faces, g["bvh_q"])[0], g["bvh_dist"], 2e-6  # two float32 sums
    yield "vertex normals", vertex_normals(mesh), g["vertex_normals"], 1e-5
    yield "duplicates", g["dup_F"][first_of_duplicates(g["dup_F"])], g["dup_F_out"], 0
    pinned = Mesh(g["nonman_V"], g["nonman_F"])
    split = split_unlinked(pinned, manifold_links(edges_of(pinned.faces)))
    yield "split vertices", split.vertices[split.faces.long()], g["nonman_V_out"][g["nonman_F_out"].long()], 0
    torn = Mesh(g["V"], g["holes_F"])
    for name, limit in (("holes", 0.6), ("holes_small", 0.03)):
        filled = fill_holes(torn, _manifold(torn), limit, clipped=0)
        ours, theirs = _places(filled), _places(Mesh(g[f"{name}_V_out"], g[f"{name}_F_out"]))
        yield f"{name}: faces that are missing", torch.tensor(len(theirs - ours)), torch.tensor(0), 0
        # loops that touch in a vertex are left open as published, and closed here
        yield f"{name}: faces more", torch.tensor(float(len(ours - theirs))), torch.tensor(0.0), 8
    whole = Mesh(g["comp_V"], g["comp_F"])
    kept = keep_faces(whole, above_area(whole, _manifold(whole), 0.05))
    yield "small components, faces", kept.faces, g["comp_F_out"], 0
    yield "small components, vertices", kept.vertices, g["comp_V_out"], 0
    mixed = Mesh(g["V"], g["orient_F"])
    part = link_components(_manifold(mixed), len(mixed.faces))
    ours = flip(mixed.faces, consistent_flips(mixed.faces, _manifold(mixed))[1])
    yield "orientation", _turned(mixed.faces, ours, part), _turned(mixed.faces, g["orient_F_out"], part), 0
    for name, cells, back, scale in (("remesh", 64, 0.0, float(g["remesh_scale"])), ("remesh32p", 32, 0.9, 35 / 32)):
        ours = narrow_band_surface(mesh.vertices, mesh.faces, torch.zeros(3), scale, cells, 1.0, back, flatter=False)
        # where two faces are equally near, the way back has two ends
        yield from _same_surface(name, ours, (g[f"{name}_V"], g[f"{name}_F"]), scale / cells, 0.999, 1e-2 if back else 1e-3)


def _places(mesh: Mesh) -> set:
    """Faces as sets of the places of their corners."""
    places = (mesh.vertices.double() * 1e5).round().long()[mesh.faces.long()]
    return {frozenset(map(tuple, face)) for face in places.tolist()}


def _same_surface(name: str, ours, golden, cell: float, share: float, limit: float):
    """Vertices next to each other, both ways, in cells; equal counts."""
    near, back = (cKDTree(two.numpy()).query(one.numpy())[0] for one, two in ((ours[0], golden[0]), (golden[0], ours[0])))
    for label, gap in (("vertices", near), ("vertices of the golden", back)):
        yield f"{name} {label}, in cells", torch.tensor(np.quantile(gap / cell, share)), torch.zeros(()).double(), limit
    yield f"{name} counts", torch.tensor([len(part) for part in ours]), torch.tensor([len(part) for part in golden]), 0


def _narrow_band(g):
    arguments = (g["center"], float(g["scale"]), int(g["resolution"]), float(g["band"]), float(g["project_back"]))
    ours = narrow_band_surface(g["vertices"], g["faces"], *arguments, flatter=False)
    yield from _same_surface(
        "surface", ours, (g["out_vertices"], g["out_faces"]), float(g["scale"] / g["resolution"]), 0.99, 1e-4
    )


def _charts(g):
    for name in ("export", "refined"):
        angle, refinements, rounds, smoothing, area, perimeter = g[f"{name}_params"].tolist()
        how = Clustering(angle, int(refinements), int(rounds), smoothing, area, perimeter)
        index = _rand_index(cluster_faces(g["vertices"], g["faces"], how), g[f"{name}_chart"].long())
        yield f"{name}, adjusted Rand index", index, torch.ones_like(index), 0.05


def _rand_index(one: Tensor, two: Tensor) -> Tensor:
    """Hubert & Arabie's adjusted index of two labellings."""
    table = torch.zeros(int(one.max()) + 1, int(two.max()) + 1, dtype=torch.float64)
    table.index_put_((one, two), torch.ones(len(one), dtype=torch.float64), accumulate=True)
    both, first, second = ((t * (t - 1) / 2).sum() for t in (table, table.sum(1), table.sum(0)))
    chance = first * second / (len(one) * (len(one) - 1) / 2)
    return (both - chance) / ((first + second) / 2 - chance)


def _bake(g):
    size, grid = int(g["texture_size"]), int(g["grid_size"])
    raster = rasterize((g["low_uv"][g["low_faces"].long()] * size).float(), size, size)
    clear, covered = ~g["ambiguous"], g["face_id"] >= 0
    yield "faces", raster.face[clear].int(), g["face_id"][clear], 0
    sure = clear[covered]
    yield "barycentric", raster.barycentric[covered][sure], g["barycentric"][sure], 1e-5
    corners = g["low_vertices"][g["low_faces"][raster.face[covered].long()].long()]
    position = (corners * raster.barycentric[covered][..., None]).sum(1)
    yield "position", position[sure], g["position"][sure], 1e-5
    _, face, weights = closest_point(g["high_vertices"], g["high_faces"], position)
    foot = (g["high_vertices"][g["high_faces"][face].long()] * weights[..., None]).sum(1)
    sure &= g["second_gap"] > 1e-5
    yield "closest", foot[sure], g["closest"][sure], 1e-5
    points = (foot - g["aabb"][0]) / (g["aabb"][1] - g["aabb"][0]) * grid
    value, weight = sample_grid(g["attrs"], g["coords"], grid, points)
    sure &= g["weight_sum"] > 1e-3
    yield "value", value[sure], g["value"][sure], 2e-5
    stored = (value.clamp(0, 1) * 255).round()
    yield "texture", stored[sure], g["texture"][sure].float(), 1


def _files(folder: Path):
    golden = np.load(folder / "expected.npz")
    order = np.lexsort(golden["coord"].T)
    for path in sorted(folder.glob("*_c*.vxz")):
        coords, parts, _ = decode_container(path.read_bytes())
        ours = np.lexsort(coords.T)
        yield f"{path.stem} coord", torch.from_numpy(coords[ours]), torch.from_numpy(golden["coord"][order]), 0
        for name, values in parts.items():
            yield f"{path.stem} {name}", torch.from_numpy(values[ours]), torch.from_numpy(golden[name][order]), 0


_BY_FOLDER = {"dual_grid": _dual_grid, "dual_to_mesh": _extraction, "vol_attr": _attributes, "remesh": _narrow_band}
_BY_NAME = {
    "dual_grid_to_mesh": _published_extraction,
    "svo": _octrees,
    "serialize": _orders,
    "grid_sample": _sampling,
    "bvh_udf": _closest,
    "mesh_ops": _mesh_operators,
    "charts": _charts,
    "bake": _bake,
}
