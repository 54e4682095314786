# SPDX-License-Identifier: Apache-2.0
"""Runs inside `blender -b`: the example of docs/scripting.md as it stands, with the installed extension.

Started by `run.py --batch` through gui_blender.sh, with the job in GENESIS_GUI_JOB (JSON): zip, connection_file, model, folder,
example.
The arguments after `--` are the example's own.
"""

import json
import os
import runpy

import addon_utils
import bpy

JOB = json.loads(os.environ["GENESIS_GUI_JOB"])
MODULE = "bl_ext.user_default.genesis"

addon_utils.enable("bl_pkg", default_set=True)
bpy.ops.extensions.package_install_files(filepath=JOB["zip"], repo="user_default", enable_on_install=True)
chosen = bpy.context.preferences.addons[MODULE].preferences
chosen.connection_file, chosen.model, chosen.auto_start = JOB["connection_file"], JOB["model"], False
bpy.ops.wm.save_userpref()
runpy.run_path(JOB["example"], run_name="__main__")

refused = {}
bpy.ops.wm.read_homefile(use_empty=True)
for name in dir(bpy.ops.genesis):
    if name in ("stop_server", "install_server", "start_server"):
        continue
    try:
        getattr(bpy.ops.genesis, name)()
    except RuntimeError as error:
        refused[name] = str(error)
unexpected = {name: words for name, words in refused.items() if "Traceback" in words or "should not" in words}
report = {"ok": not unexpected, "blender": bpy.app.version_string, "operators": len(dir(bpy.ops.genesis)), **unexpected}
with open(os.path.join(JOB["folder"], "report.json"), "w", encoding="utf-8") as file:
    json.dump(report, file)
