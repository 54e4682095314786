# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays into a mesh of Blender's, in place: whoever uses the mesh (objects, modifiers, copies) keeps it."""

from __future__ import annotations

import bpy
import numpy as np

from .glb import MeshArrays

UV_NAME = "UVMap"
_FREE_NORMALS = (4, 5, 0)  # from this Blender on, normals may be written as an attribute, which takes no time


def fill(mesh: bpy.types.Mesh, arrays: MeshArrays) -> None:
    """Replaces all geometry of a mesh; its materials and properties stay."""
    mesh.clear_geometry()
    count = len(arrays.corners)
    mesh.vertices.add(len(arrays.vertices))
    mesh.attributes["position"].data.foreach_set("vector", arrays.vertices.reshape(-1))
    mesh.loops.add(count)
    mesh.attributes[".corner_vert"].data.foreach_set("value", arrays.corners)
    mesh.polygons.add(count // arrays.sides)
    mesh.polygons.foreach_set("loop_start", np.arange(0, count, arrays.sides, dtype=np.int32))
    if arrays.uvs is not None:
        layer = mesh.uv_layers.new(name=UV_NAME, do_init=False)
        layer.uv.foreach_set("vector", arrays.uvs.reshape(-1))
    if arrays.flat:
        mesh.attributes.new("sharp_face", "BOOLEAN", "FACE").data.foreach_set("value", np.ones(count // arrays.sides, bool))
    mesh.update(calc_edges=True)
    if arrays.normals is not None:
        _set_normals(mesh, arrays.normals)


def _set_normals(mesh: bpy.types.Mesh, normals: np.ndarray) -> None:
    of_corners = len(normals) != len(mesh.vertices)
    if bpy.app.version >= _FREE_NORMALS:
        attribute = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", "CORNER" if of_corners else "POINT")
        attribute.data.foreach_set("vector", np.ascontiguousarray(normals, np.float32).reshape(-1))
    elif of_corners:
        mesh.normals_split_custom_set(normals)
    else:
        mesh.normals_split_custom_set_from_vertices(normals)
