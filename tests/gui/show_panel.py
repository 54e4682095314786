# SPDX-License-Identifier: Apache-2.0
"""Runs inside a real Blender window: installs the zip, opens the Genesis tab, waits for the click on Generate, reports.

Started by run.py through gui_blender.sh, with the job in the environment variable GENESIS_GUI_JOB (JSON): zip, picture,
connection_file, model, and the folder for the report and the marker files `panel_ready`, `done`.
"""

import json
import os
import statistics
import time
import traceback
from pathlib import Path

import addon_utils
import bpy

JOB = json.loads(os.environ["GENESIS_GUI_JOB"])
FOLDER = Path(JOB["folder"])
MODULE = "bl_ext.user_default.genesis"
TICK = 0.5  # seconds between steps, so that each is drawn before the next
BUTTON_BELOW_TOP = 299  # pixels from the top of the sidebar to Generate, with one picture and nothing else open
PATIENCE = 120.0  # seconds for the result
drawing = {}
report = {"blender": bpy.app.version_string, "steps": []}
bpy.context.preferences.view.show_splash = False


def session():
    """The installed extension's session."""
    import importlib

    return importlib.import_module(f"{MODULE}.session").session


def view():
    """The first 3D viewport with its window."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    return window, area, {region.type: region for region in area.regions}


def install():
    addon_utils.enable("bl_pkg", default_set=True)
    bpy.ops.extensions.package_install_files(filepath=JOB["zip"], repo="user_default", enable_on_install=True)
    chosen = bpy.context.preferences.addons[MODULE].preferences
    chosen.connection_file, chosen.model, chosen.auto_start = JOB["connection_file"], JOB["model"], False
    session().adopt()
    for item in list(bpy.data.objects):
        if item.type == "MESH":
            bpy.data.objects.remove(item)


def open_sidebar():
    _, area, _ = view()
    area.spaces.active.show_region_ui = True


def open_tab():
    window, area, regions = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.genesis.add_pictures(
            directory=os.path.dirname(JOB["picture"]), files=[{"name": os.path.basename(JOB["picture"])}]
        )
    regions["UI"].active_panel_category = "Genesis"
    area.tag_redraw()


def settle():
    """Lets Blender draw."""


def measure_drawing():
    """From now on every drawing of a Genesis panel is timed; a redraw of the sidebar is the sum over the panels."""
    names = [name for name in dir(bpy.types) if name.startswith("GENESIS_PT_")]
    for name in names:
        drawn_by(getattr(bpy.types, name), drawing.setdefault(name, []))


def drawn_by(panel, times):
    draw = panel.draw

    def timed(self, context):
        started = time.perf_counter()
        draw(self, context)
        times.append(time.perf_counter() - started)

    panel.draw = timed


def panel_ready():
    """Tells where the button is, measured from the top left as the X server does."""
    window, _, regions = view()
    x = regions["UI"].x + regions["UI"].width // 2
    y = window.height - regions["UI"].y - regions["UI"].height + BUTTON_BELOW_TOP
    (FOLDER / "button").write_text(f"{x} {y}\n")
    (FOLDER / "panel_ready").write_text("")


def wait_for_result():
    """True when the click has brought an object, or the time is over."""
    if not wait_for_result.started:
        wait_for_result.started = time.monotonic()
    tasks = session().tasks.values()
    failed = session().error or next((task.error for task in tasks if task.error), None)
    if failed is not None:
        raise RuntimeError(f"the panel shows an error: {failed}")
    if time.monotonic() - wait_for_result.started > PATIENCE:
        raise RuntimeError(f"no result within {PATIENCE:g} s; {len(tasks)} jobs")
    return any(item.genesis.imported for item in bpy.data.objects)


wait_for_result.started = 0.0


def look_at_result():
    """Material preview without its costs: textured solid view, framed on the object."""
    window, area, regions = view()
    item = next(item for item in bpy.data.objects if item.genesis.imported)
    area.spaces.active.shading.type, area.spaces.active.shading.color_type = "SOLID", "TEXTURE"
    area.spaces.active.overlay.show_outline_selected = False
    with bpy.context.temp_override(window=window, area=area, region=regions["WINDOW"]):
        bpy.ops.view3d.view_axis(type="FRONT")
        bpy.ops.view3d.view_orbit(angle=0.5, type="ORBITRIGHT")
        bpy.ops.view3d.view_orbit(angle=0.35, type="ORBITUP")
        bpy.ops.view3d.view_selected()
    nodes = item.data.materials[0].node_tree.nodes
    report["object"] = {
        "name": item.name,
        "type": item.type,
        "faces": len(item.data.polygons),
        "images": sorted({node.image.name for node in nodes if node.type == "TEX_IMAGE"}),
        "at_cursor": tuple(item.location) == tuple(bpy.context.scene.cursor.location),
        "stored": json.loads(item.genesis.stored),
    }
    report["import_ms"] = round(1000 * session().imported_seconds, 1)
    for other in regions.values():
        other.tag_redraw()


def undo_and_redo():
    """One undo takes the object back to its placeholder, redo brings it again, and nothing imports it twice."""
    window, area, regions = view()
    with bpy.context.temp_override(window=window, area=area, region=regions["WINDOW"]):
        bpy.ops.ed.undo()
        placeholders = [item.type for item in bpy.data.objects if item.genesis.job]
        bpy.ops.ed.redo()
    report["undo"] = {"placeholders": placeholders, "after_redo": [i.type for i in bpy.data.objects if i.genesis.imported]}


def done():
    report["ok"] = True
    finish()


def finish():
    sums = [statistics.median(times) for times in drawing.values() if times]
    report["panels_draw_ms"] = round(1000 * sum(sums), 2)
    report["draws"] = max((len(times) for times in drawing.values()), default=0)
    (FOLDER / "report.json").write_text(json.dumps(report, indent=1))
    (FOLDER / "done").write_text("")


STEPS = [install, open_sidebar, open_tab, measure_drawing, settle, panel_ready, wait_for_result]
STEPS += [undo_and_redo, look_at_result, settle, settle, done]
position = 0


def tick():
    """One step a tick; a step that returns False is tried again."""
    global position
    step = STEPS[position]
    try:
        if step() is False:
            return TICK
        report["steps"].append(step.__name__)
    except Exception:  # noqa: BLE001  whatever went wrong belongs in the report
        report["ok"], report["failed"] = False, traceback.format_exc()
        (FOLDER / "panel_ready").write_text("")
        finish()
        return None
    position += 1
    return TICK if position < len(STEPS) else None


bpy.app.timers.register(tick, first_interval=2.0, persistent=True)
