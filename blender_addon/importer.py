# SPDX-License-Identifier: GPL-3.0-or-later
"""Placeholders, and results in their place: model.glb into an object that keeps its name, transform, parents and users.

Blender's own glTF importer reads the file; what it makes is moved over. A re-bake exchanges the mesh data and the images
of the object that is there and keeps its material, so that whatever was done to it stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import JobInfo

MODEL_FILE = "model.glb"
PLACEHOLDER_SIZE = 0.5  # half the edge; a result fills a cube of edge 1
ROLE = "genesis_role"  # on an image: the input of the Principled BSDF that it feeds


def add_placeholder(context: bpy.types.Context, name: str) -> bpy.types.Object:
    """An empty cube at the 3D cursor, selected and active, which the result will replace."""
    item = bpy.data.objects.new(name, None)
    item.empty_display_type, item.empty_display_size = "CUBE", PLACEHOLDER_SIZE
    item.location = context.scene.cursor.location
    context.collection.objects.link(item)
    for other in context.view_layer.objects:
        other.select_set(False)
    item.select_set(True)
    context.view_layer.objects.active = item
    return item


def give_up(item: bpy.types.Object) -> None:
    """The object of a job that will not come: a placeholder goes, a result stays as it was."""
    if item.genesis.imported:
        item.genesis.job = ""
    else:
        bpy.data.objects.remove(item)


def deliver(item: bpy.types.Object, job: JobInfo) -> bpy.types.Object:
    """Puts a finished job's model in place of its placeholder, or into the object that asked for it.

    Raises:
        GenesisError: BAD_ASSET where the model is missing or unreadable; nothing has changed then.
    """
    mesh = _read_model(item, Path(job.asset) / MODEL_FILE)
    if item.genesis.imported:
        _exchange(item.data, mesh)
    else:
        item = _replace(item, mesh)
    item.genesis.asset, item.genesis.job, item.genesis.imported = job.asset, "", True
    return item


def push_undo(title: str) -> None:
    """The import as a step of its own; without a window there is no undo to push to."""
    window = next(iter(bpy.context.window_manager.windows), None)
    if window is not None and not bpy.app.background:
        with bpy.context.temp_override(window=window):
            bpy.ops.ed.undo_push(message=f"Genesis: {title}")


def may_import() -> bool:
    """Whether the user is not in the middle of something: another mode than Object Mode, or moving an object."""
    for window in bpy.context.window_manager.windows:
        active = window.view_layer.objects.active
        if active is not None and active.mode != "OBJECT":
            return False
        if any(operator.bl_idname.startswith("TRANSFORM_OT_") for operator in window.modal_operators):
            return False
    return True


def images_by_role(material: bpy.types.Material) -> dict[str, bpy.types.Image]:
    """The images of a result's material by the input of the Principled BSDF that each was made for."""
    nodes = material.node_tree.nodes if material.node_tree else ()
    images = [node.image for node in nodes if node.type == "TEX_IMAGE" and node.image is not None]
    return {image[ROLE]: image for image in images if ROLE in image}


def _mark_roles(material: bpy.types.Material) -> None:
    """Writes on each image which input it feeds, the first in the order of the node, and packs it into the file."""
    for node in material.node_tree.nodes:
        for socket in node.inputs if node.type == "BSDF_PRINCIPLED" else ():
            for image in _images_behind(socket):
                if ROLE not in image:
                    image[ROLE] = socket.name
                if not image.packed_file:
                    image.pack()


def _images_behind(socket: bpy.types.NodeSocket) -> Iterator[bpy.types.Image]:
    for link in socket.links:
        if link.from_node.type == "TEX_IMAGE" and link.from_node.image is not None:
            yield link.from_node.image
        else:
            for inner in link.from_node.inputs:
                yield from _images_behind(inner)


def _read_model(target: bpy.types.Object, path: Path) -> bpy.types.Mesh:
    """The mesh of a GLB with its material; what else Blender's importer makes is removed again.

    Raises:
        GenesisError: BAD_ASSET.
    """
    if not path.is_file():
        raise _bad_asset(f"{path} does not exist.")
    objects, collections = set(bpy.data.objects), set(bpy.data.collections)
    with _window_of(target):
        layer = bpy.context.view_layer
        selected, active = [item for item in layer.objects if item.select_get()], layer.objects.active
        try:
            bpy.ops.import_scene.gltf(filepath=str(path))
        except RuntimeError as error:
            raise _bad_asset(f"{path} could not be imported: {error}.") from error
        finally:
            made = [item for item in bpy.data.objects if item not in objects]
            meshes = [item.data for item in made if item.type == "MESH"]
            for item in made:
                bpy.data.objects.remove(item)
            for collection in [item for item in bpy.data.collections if item not in collections]:
                bpy.data.collections.remove(collection)
            for item in selected:
                item.select_set(True)
            layer.objects.active = active
    if len(meshes) != 1:
        raise _bad_asset(f"{path} has {len(meshes)} meshes; a Genesis asset has one.")
    for material in meshes[0].materials:
        _mark_roles(material)
    return meshes[0]


@contextmanager
def _window_of(target: bpy.types.Object) -> Iterator[None]:
    """A context in which operators run from a timer too: a window that shows the target's scene, or else any window."""
    windows = list(bpy.context.window_manager.windows)
    fitting = [window for window in windows if target.name in window.scene.objects]
    if bpy.app.background or not windows:
        yield
    else:
        with bpy.context.temp_override(window=(fitting or windows)[0]):
            yield


def _replace(placeholder: bpy.types.Object, mesh: bpy.types.Mesh) -> bpy.types.Object:
    """A mesh object in the place of a placeholder: its name, transform, parent, children, collections and memory."""
    name = placeholder.name
    item = bpy.data.objects.new(name, mesh)
    item.parent, item.matrix_parent_inverse = placeholder.parent, placeholder.matrix_parent_inverse
    item.matrix_basis = placeholder.matrix_basis
    _copy_group(placeholder.genesis, item.genesis)
    layers = [layer for scene in bpy.data.scenes for layer in scene.view_layers if name in layer.objects]
    states = [(layer, placeholder.select_get(view_layer=layer), layer.objects.active == placeholder) for layer in layers]
    placeholder.user_remap(item)  # in its collections, as a parent and wherever else it was named
    bpy.data.objects.remove(placeholder)
    for layer, selected, active in states:
        item.select_set(selected, view_layer=layer)
        if active:
            layer.objects.active = item
    item.name = mesh.name = name
    for material in mesh.materials:
        material.name = name
        for role, image in images_by_role(material).items():
            image.name = f"{name} {role.lower()}"
    return item


def _copy_group(source: bpy.types.PropertyGroup, target: bpy.types.PropertyGroup) -> None:
    for rna in source.bl_rna.properties:
        if rna.type == "POINTER" and rna.identifier != "rna_type":
            _copy_group(getattr(source, rna.identifier), getattr(target, rna.identifier))
        elif not rna.is_readonly and rna.identifier != "name":
            setattr(target, rna.identifier, getattr(source, rna.identifier))


def _exchange(old: bpy.types.Mesh, new: bpy.types.Mesh) -> None:
    """The new mesh wherever the old one was used, with the old material where only its images have changed."""
    for index, old_material in enumerate(old.materials):
        new_material = new.materials[index] if index < len(new.materials) else None
        if old_material is None or new_material is None:
            continue
        if _same_make(old_material, new_material):
            _exchange_images(old_material, new_material)
            new.materials[index] = old_material
            bpy.data.materials.remove(new_material)
        else:
            old_material.user_remap(new_material)
            _take_name(new_material, old_material, bpy.data.materials)
    old.user_remap(new)
    _take_name(new, old, bpy.data.meshes)


def _same_make(old: bpy.types.Material, new: bpy.types.Material) -> bool:
    """Whether the old material can show the new images: it has a place for each, and treats transparency alike."""
    return images_by_role(old).keys() >= images_by_role(new).keys() and _sees_through(old) == _sees_through(new)


def _sees_through(material: bpy.types.Material) -> bool:
    nodes = [node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED"]
    return any(node.inputs["Alpha"].is_linked for node in nodes)


def _exchange_images(old: bpy.types.Material, new: bpy.types.Material) -> None:
    olds = images_by_role(old)
    for role, image in images_by_role(new).items():
        olds[role].user_remap(image)
        _take_name(image, olds[role], bpy.data.images)


def _take_name(new: bpy.types.ID, old: bpy.types.ID, family: bpy.types.bpy_prop_collection) -> None:
    """Removes `old` and gives its name to `new`."""
    name = old.name
    family.remove(old)
    new.name = name


def _bad_asset(message: str) -> GenesisError:
    return GenesisError(ErrorCode.BAD_ASSET, message, "Generate it again, or correct the asset's folder in the Result panel.")
