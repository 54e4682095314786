# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture from the clipboard of X11, which Blender itself can paste on Windows, macOS and Wayland only.

Asks through libX11, which any Blender on X11 has loaded, on a connection of its own. Long pictures come in pieces (the INCR
mechanism of the Inter-Client Communication Conventions, section 2.7.2).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_ubyte, c_uint, c_ulong, c_void_p

PATIENCE = 1.5  # seconds without a word from the program that has the picture
MAX_BYTES = 256 << 20
_SELECTION_NOTIFY, _PROPERTY_NOTIFY, _NEW_VALUE = 31, 28, 0
_PROPERTY_CHANGES = 1 << 22  # event mask


class _Event(ctypes.Union):
    """The fields that are looked at of the two events that matter."""

    class Selection(ctypes.Structure):
        """XSelectionEvent."""

        _fields_ = [
            ("head", c_ulong * 5),
            ("selection", c_ulong),
            ("target", c_ulong),
            ("property", c_ulong),
            ("time", c_ulong),
        ]

    class Property(ctypes.Structure):
        """XPropertyEvent."""

        _fields_ = [("head", c_ulong * 5), ("atom", c_ulong), ("time", c_ulong), ("state", c_int)]

    _fields_ = [("type", c_int), ("selection", Selection), ("property", Property), ("pad", c_long * 24)]


def picture() -> bytes | None:
    """A PNG; None where the clipboard holds none, or there is no X11."""
    if sys.platform != "linux" or not os.environ.get("DISPLAY"):
        return None
    try:
        x11 = _library()
    except OSError:
        return None
    display = x11.XOpenDisplay(None)
    if not display:
        return None
    try:
        return _Reader(x11, display).read()
    finally:
        x11.XCloseDisplay(display)


class _Reader:
    """One question to the owner of the clipboard."""

    def __init__(self, x11: ctypes.CDLL, display: int) -> None:
        self._x11, self._display = x11, display
        self._window = x11.XCreateSimpleWindow(display, x11.XDefaultRootWindow(display), 0, 0, 1, 1, 0, 0, 0)
        x11.XSelectInput(display, self._window, _PROPERTY_CHANGES)
        self._place = self._atom("GENESIS_PICTURE")

    def read(self) -> bytes | None:
        """What it holds as a PNG."""
        clipboard, png = self._atom("CLIPBOARD"), self._atom("image/png")
        if not self._x11.XGetSelectionOwner(self._display, clipboard):
            return None
        self._x11.XConvertSelection(self._display, clipboard, png, self._place, self._window, 0)
        answer = self._next(_SELECTION_NOTIFY)
        if answer is None or not answer.selection.property:
            return None
        kind, data = self._take()
        if kind != self._atom("INCR"):
            return data or None
        pieces = bytearray()
        while len(pieces) <= MAX_BYTES:
            event = self._next(_PROPERTY_NOTIFY)
            if event is None:
                return None
            if event.property.atom == self._place and event.property.state == _NEW_VALUE:
                _, piece = self._take()
                if not piece:
                    return bytes(pieces) or None
                pieces += piece
        return None

    def _take(self) -> tuple[int, bytes]:
        """Type and content of what was put on our window, which is taken off: for pieces, that asks for the next one."""
        kind, form, count, left, data = c_ulong(), c_int(), c_ulong(), c_ulong(), POINTER(c_ubyte)()
        self._x11.XGetWindowProperty(
            self._display,
            self._window,
            self._place,
            0,
            MAX_BYTES // 4,
            1,
            0,
            byref(kind),
            byref(form),
            byref(count),
            byref(left),
            byref(data),
        )
        size = count.value if form.value == 8 else 0
        content = ctypes.string_at(data, size) if size else b""
        if data:
            self._x11.XFree(data)
        self._x11.XFlush(self._display)
        return kind.value, content

    def _next(self, kind: int) -> _Event | None:
        end = time.monotonic() + PATIENCE
        event = _Event()
        while time.monotonic() < end:
            if not self._x11.XPending(self._display):
                time.sleep(0.005)
                continue
            self._x11.XNextEvent(self._display, byref(event))
            if event.type == kind:
                return event
        return None

    def _atom(self, name: str) -> int:
        return self._x11.XInternAtom(self._display, name.encode("ascii"), 0)


def _library() -> ctypes.CDLL:
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = c_void_p
    x11.XDefaultRootWindow.restype = x11.XCreateSimpleWindow.restype = x11.XInternAtom.restype = c_ulong
    x11.XGetSelectionOwner.restype = c_ulong
    for name in ("XDefaultRootWindow", "XFlush", "XPending", "XCloseDisplay"):
        getattr(x11, name).argtypes = [c_void_p]
    x11.XFree.argtypes = [c_void_p]
    x11.XInternAtom.argtypes = [c_void_p, c_char_p, c_int]
    x11.XGetSelectionOwner.argtypes = [c_void_p, c_ulong]
    x11.XSelectInput.argtypes = [c_void_p, c_ulong, c_long]
    x11.XNextEvent.argtypes = [c_void_p, c_void_p]
    x11.XCreateSimpleWindow.argtypes = [c_void_p, c_ulong, c_int, c_int, c_uint, c_uint, c_uint, c_ulong, c_ulong]
    x11.XConvertSelection.argtypes = [c_void_p, *[c_ulong] * 5]
    x11.XGetWindowProperty.argtypes = [c_void_p, c_ulong, c_ulong, c_long, c_long, c_int, c_ulong, *[c_void_p] * 5]
    return x11
