# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what pip and uv say, and turns it into a share of the download and a line for people."""

from __future__ import annotations

import re

_RAW = re.compile(r"Progress (\d+) of (\d+)")  # pip --progress-bar raw
_PIP_FILE = re.compile(r"\s*(?:Downloading|Using cached) (?:\S*/)?([\w.]+)-[\d][^ ]*(?: \(([^)]*)\))?")
_UV_FILE = re.compile(r"\s*Downloading ([\w.-]+) \(([\d.]+)\s*([KMG])iB\)")
_UV_DONE = re.compile(r"\s*Downloaded ([\w.-]+)")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DISK = ("No space left", "not enough space", "Errno 28")
_NETWORK = (
    "name resolution",
    "Failed to establish",
    "ConnectionError",
    "Connection refused",
    "dns error",
    "error sending request",
    "Failed to fetch",
    "Max retries exceeded",
)
_ALMOST = 0.95  # of a step, until its program has ended


class Meter:
    """Counts the bytes of one step.

    Attributes:
        line: what is happening.
    """

    def __init__(self, expected: float) -> None:
        """`expected` bytes, roughly."""
        self.line = ""
        self._expected = max(expected, 1.0)
        self._before = self._now = 0
        self._file = ""
        self._sizes: dict[str, float] = {}

    @property
    def fraction(self) -> float:
        """Of the step, 0..1."""
        return min(_ALMOST, (self._before + self._now) / self._expected)

    def take(self, text: str) -> bool:
        """Takes a line; True for one that is only a number and need not be kept."""
        if raw := _RAW.fullmatch(text):
            done, total = int(raw[1]), int(raw[2])
            self._now = done
            if done >= total:
                self._before, self._now = self._before + total, 0
            self.line = f"{self._file or 'Downloading'}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
            return True
        if file := _UV_FILE.match(text):
            self._sizes[file[1]] = float(file[2]) * _UNITS[file[3]]
            self.line = text.strip()
        elif (done := _UV_DONE.match(text)) and done[1] in self._sizes:
            self._before += self._sizes.pop(done[1])
            self.line = text.strip()
        elif file := _PIP_FILE.match(text):
            self._file = self.line = file[1]
        elif text.strip() and not text.startswith("Requirement already"):
            self.line = text.partition(" (from ")[0].strip()[:120]
        return False


def counts_bytes(words: list[str]) -> bool:
    """Whether the pip that said its version can tell of bytes as numbers (since 24.1)."""
    version = re.match(r"pip (\d+)\.(\d+)", words[-1]) if words else None
    return version is not None and (int(version[1]), int(version[2])) >= (24, 1)


def reason_of(words: list[str]) -> tuple[str, str]:
    """Why a program failed, from its last lines: "disk", "network" or "" for anything else, and the line that says it."""
    text = "\n".join(words)
    said = next((line for line in reversed(words) if "error" in line.lower()), words[-1] if words else "it said nothing")
    kinds = (("disk", _DISK), ("network", _NETWORK))
    kind = next((kind for kind, signs in kinds if any(sign in text for sign in signs)), "")
    return kind, said.strip()[:300]
