# SPDX-License-Identifier: Apache-2.0
"""Builds the installable Blender extension: `python3 build_addon.py` -> dist/genesis-<version>-<platform>.zip.

Each zip holds blender_addon/, its manifest, the pyzmq wheels of one platform, the protocol as a wheel, and in bundle/ the
server's wheel with its pinned packages, from which the extension makes the server's environment. There are two editions:
genesis-<version>-<platform>-mini.zip brings the weights of the small model, the other one does not. `--repo` makes a folder
that any web server can offer as an extension repository.

Two wheels of pyzmq serve all Pythons of Blender 4.2 to 5.2 (3.11, 3.13, 3.14). The abi3 one is given plain tags, because
Blender refuses an extension that holds a cp311 and an abi3 wheel (docs/spec/platform.md 4). Standard library only; the wheels
come through pip.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ADDON, SERVER, KERNELS = ROOT / "blender_addon", ROOT / "genesis_server", ROOT / "native_ext"
PROTOCOL, WEIGHTS = SERVER / "protocol", SERVER / "mini" / "weights"
LOCK, BUNDLE = ROOT / "requirements.lock", "bundle"
TEST_PACKAGES = ("pytest", "pytest-timeout", "ruff", "trimesh", "iniconfig", "pluggy")  # of the lock file, not the server
CACHE, DIST = ROOT / "build" / "wheels", ROOT / "dist"
PYZMQ = "27.3.0"
PLATFORMS = {"windows-x64": "win_amd64", "linux-x64": "manylinux_2_28_x86_64", "macos-arm64": "macosx_11_0_arm64"}
PYTHONS = ("3.11", "3.13")  # 3.13 gets the abi3 wheel, which serves 3.14 too
PLAIN_TAGS = "cp312.cp313.cp314"  # instead of cp312 with abi3
DOWNLOAD_TIMEOUT, VALIDATE_TIMEOUT = 300, 120  # seconds
COMPRESSED = (".whl", ".zip", ".safetensors")  # already, or of numbers that hardly shrink
EPOCH = (2020, 1, 1, 0, 0, 0)  # of every file, so that the same sources give the same bytes


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Writes a zip at once and whole; the same files give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(COMPRESSED) else zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    os.replace(temporary, path)


def write_wheel(path: Path, files: dict[str, bytes], info: str) -> None:
    """Writes a wheel: the files and a RECORD of their hashes in the folder `info`."""
    lines = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(files[name])}")
    record = f"{info}/RECORD"
    write_zip(path, {**files, record: "\n".join([*lines, f"{record},,", ""]).encode()})


def version() -> str:
    """The release, as the server knows it."""
    return re.search(r'__version__ = "(.+)"', (ROOT / "genesis_server" / "__init__.py").read_text("utf-8"))[1]


def protocol_wheel(folder: Path) -> Path:
    """The package genesis_server with nothing in it but the protocol room."""
    release = version()
    info = f"genesis_protocol-{release}.dist-info"
    files = {f"genesis_server/protocol/{path.name}": path.read_bytes() for path in PROTOCOL.glob("*.py")}
    files["genesis_server/__init__.py"] = (ROOT / "genesis_server" / "__init__.py").read_bytes()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: genesis-protocol\nVersion: {release}\nLicense: Apache-2.0\nRequires-Python: >=3.11\n"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: build_addon\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / f"genesis_protocol-{release}-py3-none-any.whl"
    write_wheel(path, files, info)
    return path


def server_wheel(folder: Path, weights: bool) -> Path:
    """The server as a package, with the weights of the small model or without."""
    release = version()
    info = f"genesis_server-{release}.dist-info"
    sources = [path for room in (SERVER, KERNELS) for path in room.rglob("*.py")]
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sources}
    if weights:
        files |= {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in WEIGHTS.rglob("*") if path.is_file()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needs = "".join(f"Requires-Dist: {need}\n" for need in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: genesis-server\nVersion: {release}\nLicense: Apache-2.0\n"
    files[f"{info}/METADATA"] = f"{head}Requires-Python: {project['requires-python']}\n{needs}".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: build_addon\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    scripts = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}".encode()
    path = folder / f"genesis_server-{release}-py3-none-any.whl"
    write_wheel(path, files, info)
    return path


def requirements() -> bytes:
    """The pinned packages of the server."""
    lines = [line for line in LOCK.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return "\n".join([*(line for line in lines if line.split("==")[0] not in TEST_PACKAGES), ""]).encode()


def download(python: str, tag: str) -> Path:
    """The pyzmq wheel for one Python and platform, from the cache or through pip."""
    folder = CACHE / f"{PYZMQ}-{python}-{tag}"
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--python-version", python, "--platform", tag, "-d", str(folder)]
        code = subprocess.run([*command, f"pyzmq=={PYZMQ}"], check=False, timeout=DOWNLOAD_TIMEOUT).returncode
        if code:
            raise SystemExit(f"pip could not get pyzmq {PYZMQ} for Python {python} on {tag}.")
    return next(folder.glob("*.whl"))


def with_plain_tags(wheel: Path, folder: Path) -> Path:
    """A copy of an abi3 wheel that says it is for each Python by name; any other wheel as it is."""
    name, release, python, abi, platform = wheel.stem.split("-")
    if abi != "abi3":
        return wheel
    info = f"{name}-{release}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    del files[f"{info}/RECORD"]
    plain = [f"Tag: {tag}-none-{part}" for tag in PLAIN_TAGS.split(".") for part in platform.split(".")]
    kept = [line for line in files[f"{info}/WHEEL"].decode().splitlines() if line and not line.startswith("Tag:")]
    files[f"{info}/WHEEL"] = "\n".join([*kept, *plain, ""]).encode()
    path = folder / f"{name}-{release}-{PLAIN_TAGS}-none-{platform}.whl"
    write_wheel(path, files, info)
    return path


def manifest(platform: str, wheels: list[str]) -> str:
    """The source manifest with the release, and with platform and wheels at the top level, before its first table."""
    text = re.sub(r'(?m)^version = ".*"$', f'version = "{version()}"', (ADDON / "blender_manifest.toml").read_text("utf-8"))
    head, table, rest = text.partition("[permissions]")
    listed = "".join(f'  "./wheels/{name}",\n' for name in wheels)
    return f'{head}platforms = ["{platform}"]\nwheels = [\n{listed}]\n\n{table}{rest}'


def build(platform: str, mini: bool) -> Path:
    """The zip of one platform, in the edition with the small model's weights or without."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wheels = [with_plain_tags(download(python, PLATFORMS[platform]), CACHE) for python in PYTHONS] + [protocol_wheel(CACHE)]
    sources = (*ADDON.rglob("*.py"), ADDON / "LICENSE")
    files = {path.relative_to(ADDON).as_posix(): path.read_bytes() for path in sources}
    server = server_wheel(CACHE / ("mini" if mini else "client"), mini)
    files[f"{BUNDLE}/{server.name}"] = server.read_bytes()
    files[f"{BUNDLE}/requirements.txt"] = requirements()
    files["blender_manifest.toml"] = manifest(platform, [wheel.name for wheel in wheels]).encode()
    files.update({f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels})
    path = DIST / f"genesis-{version()}-{platform}{'-mini' if mini else ''}.zip"
    write_zip(path, files)
    return path


def validate(path: Path, python: str) -> None:
    """Lets Blender's own tool look at a zip; `python` is an interpreter in whose environment bpy is."""
    place = "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('bpy').origin).parent)"
    found = subprocess.run([python, "-c", place], capture_output=True, text=True, check=False, timeout=VALIDATE_TIMEOUT)
    tools = list(Path(found.stdout.strip() or ".").glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if found.returncode or not tools:
        raise SystemExit(f"{python} has no bpy, whose extension tool validates. Name one that has: --validate PYTHON.")
    if subprocess.run([python, str(tools[0]), "validate", str(path)], check=False, timeout=VALIDATE_TIMEOUT).returncode:
        raise SystemExit(f"{path} is not a valid extension.")


def make_repository(folder: Path, zips: list[Path]) -> Path:
    """A folder with the zips and the index.json that Blender reads; a URL to it is all that users need."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for path in zips:
        shutil.copyfile(path, folder / path.name)
        with zipfile.ZipFile(path) as archive:
            fields = tomllib.loads(archive.read("blender_manifest.toml").decode())
        # instead of the wheels, the Pythons that they are for
        tags = {tag for wheel in fields.pop("wheels") for tag in wheel.split("-")[-3].split(".") if tag.startswith("cp")}
        fields["python_versions"] = sorted(f"{tag[2]}.{tag[3:]}" for tag in tags)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        place = {"archive_url": f"./{path.name}", "archive_size": path.stat().st_size, "archive_hash": f"sha256:{digest}"}
        entries.append({**fields, **place})
    index = folder / "index.json"
    temporary = index.with_suffix(".new")
    temporary.write_text(json.dumps({"version": "v1", "blocklist": [], "data": entries}, indent=2) + "\n", "utf-8")
    os.replace(temporary, index)
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", choices=PLATFORMS, help="build this one only")
    own = ROOT / ".venv-bpy" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    parser.add_argument(
        "--validate",
        nargs="?",
        const=str(own),
        metavar="PYTHON",
        help="check each zip with Blender's tool; a Python that has bpy",
    )
    names = ("client", "mini", "both")
    parser.add_argument("--edition", choices=names, default="client", help="without weights, with them, or both")
    parser.add_argument(
        "--repo",
        nargs="?",
        const=str(DIST / "repository"),
        metavar="FOLDER",
        help="also make an extension repository, of the edition with weights where both are built",
    )
    options = parser.parse_args()
    editions = {"client": (False,), "mini": (True,), "both": (False, True)}[options.edition]
    zips: dict[bool, list[Path]] = {}
    for mini in editions:
        for platform in [options.platform] if options.platform else PLATFORMS:
            path = build(platform, mini)
            zips.setdefault(mini, []).append(path)
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.2f} MB")
            if options.validate:
                validate(path, options.validate)
    if options.repo:
        print(make_repository(Path(options.repo), zips[editions[-1]]))


if __name__ == "__main__":
    main()
