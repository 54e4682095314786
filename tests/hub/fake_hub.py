# SPDX-License-Identifier: Apache-2.0
"""A Hub on this machine: one repository in the published layout, with the headers that huggingface_hub reads.

    python fake_hub.py FOLDER MODE

MODE: `plain`; `gated` (401 for everything); `corrupt` (weights differ from their digest); `broken` (the first transfer of a
weight file stops halfway); `flaky` (so does every transfer, a seventh of the file later); `moved` (weights are at an address of
a storage server, the first of which has expired); `slow` (64 KiB every 20 ms). Prints its port,
then one line per request.
"""

from __future__ import annotations

import hashlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
FOLDER, MODE = Path(sys.argv[1]), sys.argv[2]
BROKEN: set[str] = set()
ADDRESSES: list[str] = []


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, *arguments: object) -> None:
        """Nothing beside what `tell` says."""

    def tell(self) -> None:
        sys.stdout.write(f"{self.command} {self.path} {self.headers.get('Range', '')}\n")
        sys.stdout.flush()

    def refuse(self, status: int, code: str) -> None:
        self.tell()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body: bool) -> None:
        if MODE == "gated":
            return self.refuse(401, "GatedRepo")
        if self.path.startswith("/storage/"):
            if self.path.startswith("/storage/0/"):
                return self.refuse(403, "Expired")
            self.path = self.path.removeprefix("/storage/").partition("/")[2]
        repository, found, rest = self.path.lstrip("/").partition("/resolve/")
        path = FOLDER / rest.partition("/")[2]
        if repository != "acme/tiny" or not found:
            return self.refuse(404, "RepoNotFound")
        if not path.is_file():
            return self.refuse(404, "EntryNotFound")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if MODE == "corrupt" and path.suffix == ".safetensors":
            data = bytes([data[0] ^ 1]) + data[1:]
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.tell()
        if MODE == "moved" and path.suffix == ".safetensors" and not body:
            ADDRESSES.append(f"/storage/{len(ADDRESSES)}/{self.path}")
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Location", f"http://localhost:{self.server.server_port}{ADDRESSES[-1]}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return None
        if MODE == "broken" and path.suffix == ".safetensors" and path.name not in BROKEN:
            BROKEN.add(path.name)
            self.wfile.write(data[start : start + len(data) // 2])
            self.close_connection = True
            return None
        if MODE == "flaky" and path.suffix == ".safetensors":
            self.wfile.write(data[start : start + len(data) // 7])
            self.close_connection = True
            return None
        if MODE == "slow":
            for at in range(start, len(data), 65536):
                self.wfile.write(data[at : at + 65536])
                time.sleep(0.02)
            return None
        self.wfile.write(data[start:])
        return None


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
