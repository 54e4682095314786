# SPDX-License-Identifier: Apache-2.0
"""Where things are, and for which platforms they are made."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ("windows-x64", "linux-x64", "macos-arm64")
HERE = {"linux": "linux-x64", "win32": "windows-x64", "darwin": "macos-arm64"}[sys.platform]
BUILD_TIMEOUT = 600  # seconds; the wheels may have to be downloaded
