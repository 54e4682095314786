# SPDX-License-Identifier: Apache-2.0
"""Runs inside a real Blender window: the extension used as a person would, step by step.

Started by run.py through gui_blender.sh, with the job in the environment variable GENESIS_GUI_JOB (JSON): zip, picture,
connection_file, model, and the folder for requests to the display, the report and the marker files `ready` and `done`.

`walk` is a generator: each `yield` lets Blender draw and go on; `yield condition` goes on once the condition is true.
"""

import importlib
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
TICK = 0.25  # seconds between looks at a condition
SETTLE = 4  # ticks that a change of the window takes to be drawn
PATIENCE = 500.0  # seconds for one condition
GENERATE_BELOW_TOP = 345  # pixels from the top of the sidebar to Generate, with one picture and nothing unfolded
drawing: dict[str, list[float]] = {}
ticks: list[float] = []  # seconds of each step of the session, and of the processor in it
work: list[float] = []
report = {"blender": bpy.app.version_string, "steps": []}
requests = 0
bpy.context.preferences.view.show_splash = False


def addon(name):
    """A module of the installed extension."""
    return importlib.import_module(f"{MODULE}.{name}")


def session():
    return addon("session").session


def view():
    """The first 3D viewport with its window."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    return window, area, {region.type: region for region in area.regions}


def in_view():
    window, area, regions = view()
    return bpy.context.temp_override(window=window, area=area, region=regions["WINDOW"])


def ask(words):
    """A request to the display; true once it has been carried out."""
    global requests
    requests += 1
    number = requests
    temporary = FOLDER / f"request.{number}.new"
    temporary.write_text(words + "\n")
    temporary.rename(FOLDER / f"request.{number}")
    return lambda: (FOLDER / f"answer.{number}").exists()


def settle():
    """Some ticks for Blender to draw."""
    left = [SETTLE]

    def drawn():
        left[0] -= 1
        return left[0] <= 0

    return drawn


def shot(name, crop=""):
    """The screen, or a part of it (ImageMagick geometry), as docs/images/<name>.png."""
    report["steps"].append(name)
    return ask(f"shot {name} {crop}")


def sidebar():
    """The Genesis tab on the screen as ImageMagick geometry, from its top to `height` pixels below."""
    window, _, regions = view()
    region = regions["UI"]
    return f"{region.width}x{region.height}+{region.x}+{window.height - region.y - region.height}"


def install():
    addon_utils.enable("bl_pkg", default_set=True)
    bpy.ops.extensions.package_install_files(filepath=JOB["zip"], repo="user_default", enable_on_install=True)
    chosen = bpy.context.preferences.addons[MODULE].preferences
    chosen.connection_file, chosen.model, chosen.auto_start = str(FOLDER / "nobody.json"), JOB["model"], False
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    timed_pump()


def timed_pump():
    """From now on each step of the session is timed, and each drawing of a panel."""
    own = session()
    pump = own.pump

    def timed(now):
        imported, started, worked = own.imported_seconds, time.perf_counter(), time.thread_time()
        pump(now)
        if own.imported_seconds == imported:
            ticks.append(time.perf_counter() - started)
            work.append(time.thread_time() - worked)

    own.pump = timed
    for name in [name for name in dir(bpy.types) if name.startswith("GENESIS_PT_")]:
        time_drawing(getattr(bpy.types, name), drawing.setdefault(name, []))


def time_drawing(panel, times):
    draw = panel.draw

    def timed(self, context):
        started = time.perf_counter()
        draw(self, context)
        times.append(time.perf_counter() - started)

    panel.draw = timed


def click_below_top(pixels):
    """A click in the sidebar, so many pixels below its top."""
    window, _, regions = view()
    region = regions["UI"]
    scale = bpy.context.preferences.system.ui_scale
    x = region.x + round(100 * scale)
    return ask(f"click {x} {window.height - region.y - region.height + round(pixels * scale)}")


def finished():
    """True when nothing is under way; an error ends the walk."""
    own = session()
    failed = own.error or next((task.error for task in own.tasks.values() if task.error), None)
    if failed is not None:
        raise RuntimeError(f"the panel shows an error: {failed}")
    return not own.busy


def results():
    return [item for item in bpy.data.objects if item.type == "MESH" and item.data.genesis.imported]


def look_at(items):
    """Textured solid view, framed on objects."""
    _, area, _ = view()
    area.spaces.active.shading.type, area.spaces.active.shading.color_type = "SOLID", "TEXTURE"
    with in_view():
        for item in bpy.data.objects:
            item.select_set(item in items)
        bpy.context.view_layer.objects.active = items[-1]
        bpy.ops.view3d.view_axis(type="FRONT")
        bpy.ops.view3d.view_orbit(angle=0.5, type="ORBITRIGHT")
        bpy.ops.view3d.view_orbit(angle=0.35, type="ORBITUP")
        bpy.ops.view3d.view_selected()


def check(right, words):
    if not right:
        raise AssertionError(words)


def walk():
    window, area, regions = view()
    install()
    area.spaces.active.show_region_ui = True
    yield settle()
    regions["UI"].active_panel_category = "Genesis"
    area.tag_redraw()
    yield settle()
    (FOLDER / "ready").write_text("")
    session().touch()
    yield lambda: not addon("setup").setup.ready
    yield settle()
    yield shot("first_run", sidebar())
    yield from of_another_release()
    chosen = bpy.context.preferences.addons[MODULE].preferences
    chosen.connection_file = JOB["connection_file"]
    addon("handlers").adopt()
    yield session_connected
    yield settle()
    yield shot("panel_empty", sidebar())
    chosen.model = "microsoft/TRELLIS.2-4B"
    yield lambda: addon("questions").questions.model() is not None
    area.tag_redraw()
    yield settle()
    yield shot("weights_missing", sidebar())
    chosen.model = JOB["model"]
    yield lambda: addon("questions").questions.model() is not None

    yield ask(f"drag {JOB['picture']} 400 640")
    yield settle()
    yield shot("drop_menu")
    yield ask("click 400 632")
    yield settle()
    check([item.path for item in bpy.context.scene.genesis.pictures] == [JOB["picture"]], "a dropped picture is in the list")
    yield ask(f"copy {JOB['picture']}")
    with in_view():
        add_and_remove(bpy.ops.genesis.paste_picture)
        add_and_remove(bpy.ops.genesis.add_viewport)
    yield settle()
    settings = bpy.context.scene.genesis.settings
    bpy.context.scene.genesis.preset = "draft"
    settings.shape.steps = settings.texture.steps = 40  # so that there is time for a picture of each stage
    yield settle()
    yield lambda: addon("questions").questions.cutout(JOB["picture"], "auto") is not None
    yield settle()
    yield shot("panel")
    yield click_below_top(GENERATE_BELOW_TOP)
    yield lambda: session().tasks
    yield settle()
    yield shot("generating")
    (item,) = bpy.data.objects
    look_at([item])
    yield lambda: any(polygon.loop_total == 4 for polygon in item.data.polygons[:1]) or finished()
    yield settle()
    yield shot("placeholder_voxels")
    yield lambda: any(polygon.loop_total == 3 for polygon in item.data.polygons[:1]) or finished()
    yield settle()
    yield shot("placeholder_shape")
    yield finished
    (item,) = results()
    report["import_ms"] = round(1000 * session().imported_seconds, 1)
    look_at([item])
    yield settle()
    yield shot("result_in_blender")

    yield ask("key ctrl+z")
    yield settle()
    report["after_undo"] = [[i.name, i.type, i.data.genesis.imported] for i in bpy.data.objects]
    check(not results(), "undo takes the result back")
    yield ask("key ctrl+shift+z")
    yield settle()
    check(len(results()) == 1, "redo brings the result again")

    (item,) = results()
    look_at([item])
    bpy.context.window_manager.genesis.page = "ASSET"
    item.data.genesis.settings.bake.texture_size = 1024
    yield lambda: addon("questions").questions.forecast(item.data.genesis) is not None
    yield settle()
    yield settle()
    yield click_below_top(396)
    yield settle()
    yield shot("asset_settings", sidebar())
    yield click_below_top(396)
    with in_view():
        check(bpy.ops.genesis.rebake() == {"FINISHED"}, "re-bake starts")
    yield finished
    check(tuple(bpy.data.images[f"{item.name} base color"].size) == (1024, 1024), "re-bake changes the texture size")

    bpy.context.window_manager.genesis.page = "NEW"
    scene = bpy.context.scene.genesis
    scene.preset, scene.variants, scene.layout = "draft", 3, "ROW"
    bpy.context.scene.cursor.location = (1.5, 0.0, 0.0)
    with in_view():
        check(bpy.ops.genesis.generate() == {"FINISHED"}, "three variants are asked for")
        bpy.ops.view3d.view_all()
    yield lambda: len([task for task in session().tasks.values() if task.info]) >= 5
    yield settle()
    yield shot("variants_queued")
    last = list(session().tasks.values())[-1]
    with in_view():
        bpy.ops.genesis.cancel(job=last.key)
    yield finished
    check(len(results()) == 3, "two variants came, the cancelled one did not")
    look_at(results())
    yield settle()
    yield shot("variants")
    kept, other = [item for item in results() if item.data.genesis.group]
    folder = other.data.genesis.asset
    look_at([kept])
    with in_view():
        check(bpy.ops.genesis.keep_variant("EXEC_DEFAULT", True) == {"FINISHED"}, "one variant is kept")
    check(len(results()) == 2 and not os.path.isdir(folder), "the other one is gone, and its folder")
    yield settle()
    yield ask("key ctrl+z")
    yield settle()
    check(len(results()) == 3 and os.path.isdir(folder), "undo brings back both")

    path = str(FOLDER / "scene.blend")
    with in_view():
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.open_mainfile(filepath=path)
    yield settle()
    item = next(item for item in results() if not item.data.genesis.group)
    look_at([item])
    before = [tuple(vertex.co) for vertex in item.data.vertices]
    with in_view():
        check(bpy.ops.genesis.regenerate_texture(seed=7) == {"FINISHED"}, "a new texture is asked for")
    yield finished
    item = next(item for item in results() if not item.data.genesis.group)
    check([tuple(vertex.co) for vertex in item.data.vertices] == before, "a new texture keeps the shape")
    yield settle()
    yield shot("new_texture")
    with in_view():
        check(bpy.ops.genesis.open_log() == {"FINISHED"}, "the log opens in a window of its own")
    yield settle()
    log = bpy.data.texts["Genesis Log"].as_string()
    check("serves at" in log and len(bpy.context.window_manager.windows) == 2, "the log is what the server has written")
    with in_view():
        bpy.ops.genesis.copy_log()
    check("serves at" in bpy.context.window_manager.clipboard, "the log can be copied")


def of_another_release():
    """What the panel shows where an earlier release of the extension has installed the server."""
    record, preferences = addon("backend.record"), addon("preferences")
    setup, folder = addon("setup").setup, preferences.backend_folder()
    record.interpreter(folder).parent.mkdir(parents=True)
    record.interpreter(folder).write_text("")
    record.write_record(folder, {record.LAST_STEP: {"release": "another"}})
    yield lambda: session().touch() or setup.outdated
    yield settle()
    yield shot("update_server", sidebar())
    record.remove(folder)
    yield lambda: session().touch() or not setup.ready


def add_and_remove(operator):
    """Adds a picture from elsewhere (another program that has copied one and takes its time, the viewport), and looks at it."""
    scene = bpy.context.scene.genesis
    operator()
    check(len(scene.pictures) == 2 and os.path.getsize(scene.pictures[1].absolute()) > 1000, f"{operator} adds a picture")
    scene.pictures.remove(1)
    scene.active_picture = 0


def session_connected():
    return session().connected


def finish():
    sums = [statistics.median(times) for times in drawing.values() if times]
    report["panels_draw_ms"] = round(1000 * sum(sums), 2)
    report["draws"] = max((len(times) for times in drawing.values()), default=0)
    for name, times in (("pump_ms", ticks), ("pump_processor_ms", work)):
        ordered = sorted(times) or [0.0]
        report[name] = {
            "count": len(times),
            "median": round(1000 * statistics.median(ordered), 2),
            "p99": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 2),
            "max": round(1000 * ordered[-1], 2),
        }
    (FOLDER / "report.json").write_text(json.dumps(report, indent=1))
    (FOLDER / "ready").write_text("")
    (FOLDER / "done").write_text("")


walking = walk()
waiting_for = None
since = 0.0


def tick():
    """Goes on with the walk where what it waits for is so."""
    global waiting_for, since
    try:
        if waiting_for is not None and not waiting_for():
            if time.monotonic() - since > PATIENCE:
                raise RuntimeError(f"not within {PATIENCE:g} s after {report['steps'][-1:]}: {waiting_for}")
            return TICK
        waiting_for, since = next(walking), time.monotonic()
        return TICK
    except StopIteration:
        report["ok"] = True
    except Exception:  # noqa: BLE001  whatever went wrong belongs in the report
        report["ok"], report["failed"] = False, traceback.format_exc()
    finish()
    return None


bpy.app.timers.register(tick, first_interval=2.0, persistent=True)
