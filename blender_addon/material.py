# SPDX-License-Identifier: GPL-3.0-or-later
"""The material of a result: a Principled BSDF fed by the asset's textures, laid out to be read; and new images for an old one.

Each image carries its role, so that a re-bake finds it again whatever the user has done to the material meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import bpy

from .glb import Surface, Texture

ROLE = "genesis_role"  # on an image: "base_color", "metallic_roughness" or "normal"
_WORDS = {"base_color": "base color", "metallic_roughness": "metallic roughness", "normal": "normal"}
_COLOUR = "base_color"
_COLUMN, _ROW = 300, 320  # node editor units between the nodes


def dress(mesh: bpy.types.Mesh, surface: Surface, name: str, folder: Path | None) -> None:
    """Gives a mesh the look of an asset, in its first material slot; as `dressed`."""
    made = dressed(mesh.materials[0] if mesh.materials else None, surface, name, folder)
    if mesh.materials:
        mesh.materials[0] = made
    else:
        mesh.materials.append(made)


def dressed(old: bpy.types.Material | None, surface: Surface, name: str, folder: Path | None) -> bpy.types.Material:
    """The material that shows an asset's surface.

    A material of ours that is there already keeps everything the user did to it and gets the new images; it is replaced
    only where it cannot show them, because transparency or a texture is new.

    Args:
        old: the material so far, or None.
        surface: what to show.
        name: of a new material, and the beginning of its images' names.
        folder: where the textures are written as files; None packs them into the .blend.
    """
    images = {role: _image(texture, role, name, folder) for role, texture in surface.textures.items()}
    if old is None:
        return _material(surface, images, name)
    if _can_show(old, surface):
        _exchange_images(old, images)
        return old
    new = _material(surface, images, name)
    stale = images_by_role(old)
    old.user_remap(new)
    _take_name(new, old, bpy.data.materials)
    for role, image in stale.items():
        if role in images and image.users == 0:
            _take_name(images[role], image, bpy.data.images)
    return new


def images_by_role(material: bpy.types.Material) -> dict[str, bpy.types.Image]:
    """The images of a result's material by their role."""
    nodes = material.node_tree.nodes if material.node_tree else ()
    images = [node.image for node in nodes if node.type == "TEX_IMAGE" and node.image is not None]
    return {image[ROLE]: image for image in images if ROLE in image}


def _image(texture: Texture, role: str, name: str, folder: Path | None) -> bpy.types.Image:
    """An image of a texture's bytes, which Blender decodes when it first shows them."""
    title = f"{name} {_WORDS[role]}"
    if folder is None:
        image = bpy.data.images.new(title, 8, 8)
        image.pack(data=texture.data, data_len=len(texture.data))
        image.source = "FILE"
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{title}{texture.suffix}"
        path.write_bytes(texture.data)
        image = bpy.data.images.load(str(path))
        image.name = title
        if bpy.data.is_saved and bpy.path.is_subdir(str(path), str(Path(bpy.data.filepath).parent)):
            image.filepath = bpy.path.relpath(str(path))
    image[ROLE] = role
    if role != _COLOUR:
        image.colorspace_settings.name = "Non-Color"
    return image


def _material(surface: Surface, images: Mapping[str, bpy.types.Image], name: str) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    if material.node_tree is None:  # before Blender 5.0
        material.use_nodes = True
    material.use_backface_culling = not surface.two_sided
    material.surface_render_method = "BLENDED" if surface.alpha == "BLEND" else "DITHERED"
    tree = material.node_tree
    tree.nodes.clear()
    output = _node(tree, "ShaderNodeOutputMaterial", 1, 0)
    principled = _node(tree, "ShaderNodeBsdfPrincipled", 0, 0)
    tree.links.new(principled.outputs["BSDF"], output.inputs["Surface"])
    inputs = principled.inputs
    inputs["Base Color"].default_value = surface.base_color
    inputs["Metallic"].default_value, inputs["Roughness"].default_value = surface.metallic, surface.roughness
    if _COLOUR in images:
        colour = _texture_node(tree, images[_COLOUR], "Base Color", 0)
        tree.links.new(colour.outputs["Color"], inputs["Base Color"])
        if surface.alpha != "OPAQUE":
            tree.links.new(_alpha(tree, colour, surface), inputs["Alpha"])
    if "metallic_roughness" in images:
        both = _texture_node(tree, images["metallic_roughness"], "Metallic, Roughness", 1)
        split = _node(tree, "ShaderNodeSeparateColor", -1, 1)
        tree.links.new(both.outputs["Color"], split.inputs["Color"])
        tree.links.new(split.outputs["Blue"], inputs["Metallic"])
        tree.links.new(split.outputs["Green"], inputs["Roughness"])
    if "normal" in images:
        bumps = _texture_node(tree, images["normal"], "Normal", 2)
        normal = _node(tree, "ShaderNodeNormalMap", -1, 2)
        tree.links.new(bumps.outputs["Color"], normal.inputs["Color"])
        tree.links.new(normal.outputs["Normal"], inputs["Normal"])
    return material


def _alpha(tree: bpy.types.NodeTree, colour: bpy.types.Node, surface: Surface) -> bpy.types.NodeSocket:
    """Transparency as the asset means it: as it is, or cut at the threshold."""
    if surface.alpha == "BLEND":
        return colour.outputs["Alpha"]
    cut = _node(tree, "ShaderNodeMath", -1, 0)
    cut.location.y -= _ROW / 2
    cut.operation, cut.label = "GREATER_THAN", "Alpha Cutoff"
    cut.inputs[1].default_value = surface.cutoff
    tree.links.new(colour.outputs["Alpha"], cut.inputs[0])
    return cut.outputs[0]


def _node(tree: bpy.types.NodeTree, kind: str, column: int, row: int) -> bpy.types.Node:
    node = tree.nodes.new(kind)
    node.location = (column * _COLUMN, -row * _ROW)
    return node


def _texture_node(tree: bpy.types.NodeTree, image: bpy.types.Image, label: str, row: int) -> bpy.types.Node:
    node = _node(tree, "ShaderNodeTexImage", -2, row)
    node.image, node.label, node.extension = image, label, "EXTEND"
    return node


def _can_show(material: bpy.types.Material, surface: Surface) -> bool:
    """Whether it has a place for each texture, none that would stay stale, and treats transparency as the surface does."""
    blended = material.surface_render_method == "BLENDED"
    linked = _alpha_is_linked(material)
    meant = "BLEND" if linked and blended else "MASK" if linked else "OPAQUE"
    return images_by_role(material).keys() == surface.textures.keys() and meant == surface.alpha


def _alpha_is_linked(material: bpy.types.Material) -> bool:
    nodes = material.node_tree.nodes if material.node_tree else ()
    return any(node.inputs["Alpha"].is_linked for node in nodes if node.type == "BSDF_PRINCIPLED")


def _exchange_images(material: bpy.types.Material, images: Mapping[str, bpy.types.Image]) -> None:
    olds = images_by_role(material)
    for role, image in images.items():
        olds[role].user_remap(image)
        _take_name(image, olds[role], bpy.data.images)


def _take_name(new: bpy.types.ID, old: bpy.types.ID, family: bpy.types.bpy_prop_collection) -> None:
    """Removes `old` and gives its name to `new`."""
    name = old.name
    family.remove(old)
    new.name = name
