# SPDX-License-Identifier: Apache-2.0
"""Another program on the same X display: drags a file onto a window as a file manager does, or holds a picture to be pasted.

    python x11_offer.py drag FILE X Y          # until the window under the point has taken it
    python x11_offer.py clipboard FILE.png     # until somebody else copies something, or SECONDS have passed

Speaks the XDND protocol (version 5) and the selections of X11 through libX11 alone.
"""

from __future__ import annotations

import ctypes
import sys
import time
from ctypes import POINTER, Structure, Union, byref, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from pathlib import Path

SECONDS = 20.0  # until it gives up
CLIENT_MESSAGE, SELECTION_REQUEST, SELECTION_NOTIFY, SELECTION_CLEAR = 33, 30, 31, 29
PROPERTY_NOTIFY, DELETED, PROPERTY_CHANGES = 28, 1, 1 << 22
XDND_VERSION, ATOM, PROP_REPLACE = 5, 4, 0
PIECE = 1 << 16  # bytes of long content at a time

X = ctypes.CDLL("libX11.so.6")
X.XOpenDisplay.restype = c_void_p
X.XDefaultRootWindow.restype = X.XCreateSimpleWindow.restype = X.XInternAtom.restype = c_ulong
X.XDefaultRootWindow.argtypes = X.XFlush.argtypes = X.XPending.argtypes = [c_void_p]
X.XInternAtom.argtypes = [c_void_p, c_char_p, c_int]
X.XCreateSimpleWindow.argtypes = [c_void_p, c_ulong, c_int, c_int, c_uint, c_uint, c_uint, c_ulong, c_ulong]
X.XSetSelectionOwner.argtypes = [c_void_p, c_ulong, c_ulong, c_ulong]
X.XChangeProperty.argtypes = [c_void_p, c_ulong, c_ulong, c_ulong, c_int, c_int, c_char_p, c_int]
X.XSendEvent.argtypes = [c_void_p, c_ulong, c_int, c_long, c_void_p]
X.XNextEvent.argtypes = [c_void_p, c_void_p]
X.XSelectInput.argtypes = [c_void_p, c_ulong, c_long]
X.XWarpPointer.argtypes = [c_void_p, c_ulong, c_ulong, c_int, c_int, c_uint, c_uint, c_int, c_int]
X.XQueryPointer.argtypes = [c_void_p, c_ulong, *[POINTER(c_ulong)] * 2, *[POINTER(c_int)] * 4, POINTER(c_uint)]


class ClientMessage(Structure):
    _fields_ = [
        ("type", c_int),
        ("serial", c_ulong),
        ("send_event", c_int),
        ("display", c_void_p),
        ("window", c_ulong),
        ("message", c_ulong),
        ("format", c_int),
        ("data", c_long * 5),
    ]


class Request(Structure):
    _fields_ = [
        ("type", c_int),
        ("serial", c_ulong),
        ("send_event", c_int),
        ("display", c_void_p),
        ("owner", c_ulong),
        ("requestor", c_ulong),
        ("selection", c_ulong),
        ("target", c_ulong),
        ("property", c_ulong),
        ("time", c_ulong),
    ]


class Notify(Structure):
    _fields_ = [
        ("type", c_int),
        ("serial", c_ulong),
        ("send_event", c_int),
        ("display", c_void_p),
        ("requestor", c_ulong),
        ("selection", c_ulong),
        ("target", c_ulong),
        ("property", c_ulong),
        ("time", c_ulong),
    ]


class Changed(Structure):
    _fields_ = [
        ("type", c_int),
        ("serial", c_ulong),
        ("send_event", c_int),
        ("display", c_void_p),
        ("window", c_ulong),
        ("atom", c_ulong),
        ("time", c_ulong),
        ("state", c_int),
    ]


class Event(Union):
    _fields_ = [
        ("type", c_int),
        ("client", ClientMessage),
        ("request", Request),
        ("notify", Notify),
        ("changed", Changed),
        ("pad", c_long * 24),
    ]


class Offer:
    """A window of ours that owns a selection, and hands its content to whoever asks."""

    def __init__(self, selection: str, kind: str, content: bytes) -> None:
        self.display = X.XOpenDisplay(None)
        if not self.display:
            raise SystemExit("there is no X display")
        self.root = X.XDefaultRootWindow(self.display)
        self.window = X.XCreateSimpleWindow(self.display, self.root, 0, 0, 1, 1, 0, 0, 0)
        self.kind, self.content = kind, content
        self.selection = self.atom(selection)
        X.XSetSelectionOwner(self.display, self.selection, self.window, 0)

    def atom(self, name: str) -> int:
        return X.XInternAtom(self.display, name.encode(), 0)

    def tell(self, window: int, message: str, *values: int) -> None:
        event = Event()
        event.client.type, event.client.window, event.client.format = CLIENT_MESSAGE, window, 32
        event.client.message = self.atom(message)
        for index, value in enumerate((self.window, *values)):
            event.client.data[index] = value
        X.XSendEvent(self.display, window, 0, 0, byref(event))
        X.XFlush(self.display)

    def serve(self, until: str = "") -> bool:
        """Answers until a message of this name comes, or the selection is lost; whether it was so in time."""
        end, wanted = time.monotonic() + SECONDS, self.atom(until) if until else 0
        while time.monotonic() < end:
            if not X.XPending(self.display):
                time.sleep(0.01)
                continue
            event = Event()
            X.XNextEvent(self.display, byref(event))
            if event.type == SELECTION_REQUEST:
                self.give(event.request)
            elif event.type == SELECTION_CLEAR or (event.type == CLIENT_MESSAGE and event.client.message == wanted):
                return True
        return False

    def give(self, request: Request) -> None:
        targets, kind = self.atom("TARGETS"), self.atom(self.kind)
        if request.target == targets:
            data = (c_ulong * 2)(targets, kind)
            content, form, bits, count = bytes(data), ATOM, 32, 2
        elif request.target == kind and len(self.content) > PIECE:
            self.give_in_pieces(request, kind)
            return
        elif request.target == kind:
            content, form, bits, count = self.content, kind, 8, len(self.content)
        else:
            content, form, bits, count, request.property = b"", 0, 8, 0, 0
        if request.property:
            X.XChangeProperty(self.display, request.requestor, request.property, form, bits, PROP_REPLACE, content, count)
        self.notify(request)

    def give_in_pieces(self, request: Request, kind: int) -> None:
        """As programs do with long content: a word that it will come, then a piece whenever the last one has been taken."""
        X.XSelectInput(self.display, request.requestor, PROPERTY_CHANGES)
        size = bytes(c_long(len(self.content)))
        X.XChangeProperty(self.display, request.requestor, request.property, self.atom("INCR"), 32, PROP_REPLACE, size, 1)
        self.notify(request)
        pieces = [self.content[start : start + PIECE] for start in range(0, len(self.content), PIECE)]
        event = Event()
        for piece in [*pieces, b""]:
            while True:
                X.XNextEvent(self.display, byref(event))
                if event.type == PROPERTY_NOTIFY and event.changed.atom == request.property and event.changed.state == DELETED:
                    break
            X.XChangeProperty(self.display, request.requestor, request.property, kind, 8, PROP_REPLACE, piece, len(piece))
            X.XFlush(self.display)

    def notify(self, request: Request) -> None:
        event = Event()
        event.notify.type, event.notify.requestor, event.notify.selection = (
            SELECTION_NOTIFY,
            request.requestor,
            request.selection,
        )
        event.notify.target, event.notify.property, event.notify.time = request.target, request.property, request.time
        X.XSendEvent(self.display, request.requestor, 0, 0, byref(event))
        X.XFlush(self.display)


def drag(path: Path, x: int, y: int) -> bool:
    """Drops a file on the window at a point of the screen."""
    offer = Offer("XdndSelection", "text/uri-list", f"{path.resolve().as_uri()}\r\n".encode())
    X.XWarpPointer(offer.display, 0, offer.root, 0, 0, 0, 0, x, y)
    root, window, number, mask = c_ulong(), c_ulong(), c_int(), c_uint()
    X.XQueryPointer(offer.display, offer.root, byref(root), byref(window), *[byref(number)] * 4, byref(mask))
    target, kind, copy = window.value, offer.atom("text/uri-list"), offer.atom("XdndActionCopy")
    offer.tell(target, "XdndEnter", XDND_VERSION << 24, kind)
    for step in (8, 4, 0):  # a hand moves; the window is asked at each place
        offer.tell(target, "XdndPosition", 0, (x - step) << 16 | y, 0, copy)
        offer.serve("XdndStatus")
    offer.tell(target, "XdndDrop", 0, 0)
    return offer.serve("XdndFinished")


def main() -> None:
    if sys.argv[1] == "drag":
        done = drag(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        done = Offer("CLIPBOARD", "image/png", Path(sys.argv[2]).read_bytes()).serve()
    raise SystemExit(0 if done else 1)


if __name__ == "__main__":
    main()
