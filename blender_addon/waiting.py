# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes that wait for a job: the placeholders in the scene, and results that are being made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy

from .properties import GenesisScene, main_mesh

_CORNERS = tuple((x, y, z) for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5))
_EDGES = ((0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7))


def meshes() -> list[bpy.types.Mesh]:
    """Those that an object still uses, each once."""
    found: dict[str, bpy.types.Mesh] = {}
    for item in bpy.data.objects:
        for mesh in _all_of(item):
            if mesh.genesis.job:
                found.setdefault(mesh.name_full, mesh)
    return list(found.values())


def objects_of(mesh: bpy.types.Mesh) -> list[bpy.types.Object]:
    """The objects that show a mesh, or one of its levels, or have it among their variants."""
    return [item for item in bpy.data.objects if mesh in _all_of(item)]


def add_mesh(name: str, size: float) -> bpy.types.Mesh:
    """The mesh of a placeholder: the edges of a cube that stands on the ground."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([[size * value for value in corner] for corner in _CORNERS], _EDGES, [])
    mesh.update()
    return mesh


def add_object(context: bpy.types.Context, mesh: bpy.types.Mesh, offset: float = 0.0) -> bpy.types.Object:
    """An object at the 3D cursor, `offset` to the right of it, selected and active."""
    scene: GenesisScene = context.scene.genesis
    item = bpy.data.objects.new(mesh.name, mesh)
    item.location = context.scene.cursor.location
    item.location.x += offset
    chosen = scene.collection
    within = chosen is not None and chosen in [context.scene.collection, *context.scene.collection.children_recursive]
    (chosen if within else context.collection).objects.link(item)
    for other in context.view_layer.objects:
        other.select_set(False)
    with contextlib.suppress(RuntimeError):  # the collection is excluded from this view layer
        item.select_set(True)
        context.view_layer.objects.active = item
    return item


def give_up(mesh: bpy.types.Mesh) -> None:
    """The mesh of a job that will not come: a placeholder goes, a result stays as it was."""
    memory = mesh.genesis
    memory.job = ""
    if memory.imported:
        memory.settings.assign(memory.made_with())
        return
    if memory.textured:  # the user's own mesh, which never was a placeholder
        memory.textured = False
        return
    for item in objects_of(mesh):
        drop_variant(item, mesh)
        if item.data == mesh:
            bpy.data.objects.remove(item)
    if mesh.users == 0:
        bpy.data.meshes.remove(mesh)


def drop_variant(item: bpy.types.Object, mesh: bpy.types.Mesh) -> None:
    """Takes a mesh from an object's variants, and shows another one where it was shown."""
    entries = item.genesis.variants
    index = next((index for index, entry in enumerate(entries) if entry.mesh == mesh), None)
    if index is None:
        return
    if main_mesh(item.data) == mesh and len(entries) > 1:
        item.data = entries[index + 1 if index + 1 < len(entries) else index - 1].mesh
    entries.remove(index)
    if len(entries) == 1:
        entries.clear()


def _all_of(item: bpy.types.Object) -> Iterator[bpy.types.Mesh]:
    main = main_mesh(item.data)
    if main is not None:
        yield main
        yield from (entry.mesh for entry in item.genesis.variants if entry.mesh is not None and entry.mesh != main)
