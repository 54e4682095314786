# SPDX-License-Identifier: Apache-2.0
"""One file of the Hub into the cache of `huggingface_hub`: continued, verified, whatever happens on the way.

Files with a digest, which are the large ones, are fetched here: since version 2 that library throws half a file away when its
process ends.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from genesis_server.hub.catalog import RemoteFile, Repository
from genesis_server.hub.explain import explained
from genesis_server.hub.locate import open_repository
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

CHUNK = 1 << 18  # of reading and writing; progress and a cancel come as often
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # one after the other that bring nothing
WAIT = 1.0  # seconds before the second attempt, twice as many before every further one
POLL = 1.0  # seconds between two looks at what another process brings
_PASSING = (urllib.error.URLError, ConnectionError, TimeoutError, EOFError, ssl.SSLError, http.client.HTTPException)


@dataclass(frozen=True)
class Offer:
    """A file that the Hub says it would give: with size and digest where the catalogue has none, and where its bytes are."""

    repository: Repository
    file: RemoteFile
    etag: str
    location: str
    commit: str = ""

    @property
    def name(self) -> str:
        """Repository and path."""
        return f"{self.repository.id}/{self.file.path}"

    @property
    def blob(self) -> Path | None:
        """Where in the cache its bytes go; None for a small file without a digest."""
        if not (self.file.sha256 and self.etag):
            return None
        return _cache("", self.repository) / "blobs" / self.etag


def ask(repository: Repository, file: RemoteFile) -> Offer:
    """Ask for the file's header: that it exists, may be had, and its size.

    Raises:
        GenesisError: GATED_MODEL, OFFLINE, MODEL_MISSING.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with explained(repository, file.path):
        metadata = get_hf_file_metadata(hf_hub_url(repository.id, file.path, revision=repository.revision))
    digest = metadata.etag if len(metadata.etag or "") == 64 else None  # large files carry their sha256
    known = replace(file, size=file.size or metadata.size, sha256=file.sha256 or digest)
    return Offer(repository, known, metadata.etag or "", metadata.location, metadata.commit_hash or "")


def fetch(offer: Offer, on_bytes: Callable[[int], None]) -> None:
    """Bring one file into the cache.

    Raises:
        GenesisError: what stops it; BAD_MODEL when it has another digest than the published one (it is deleted).
    """
    from huggingface_hub import hf_hub_download

    repository, file = offer.repository, offer.file
    with explained(repository, file.path):
        if offer.blob is not None:
            offer.blob.parent.mkdir(parents=True, exist_ok=True)
            with _alone(offer, lambda: on_bytes(_size(_part(offer.blob)))):
                if open_repository(repository.id).find(file.path) is None:  # else another process was faster
                    _transfer(offer, offer.blob, on_bytes)
                    _place(offer)
        hf_hub_download(repository.id, file.path, revision=repository.revision)


def still_to_come(offer: Offer) -> int:
    """Bytes that are not on the disk yet."""
    size = offer.file.size or 0
    if offer.blob is None:
        return size
    return max(0, size - max(_size(offer.blob), _size(_part(offer.blob))))


def sha256_of(file: Path) -> str:
    """Digest of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(offer: Offer, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold that library's lock on the file: two processes that append to one file would spoil it."""
    from huggingface_hub.utils import WeakFileLock

    lock = _cache(".locks", offer.repository) / f"{offer.etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(WeakFileLock(lock, timeout=POLL))
                break
            except TimeoutError:
                waiting()
        yield


def _transfer(offer: Offer, target: Path, on_bytes: Callable[[int], None]) -> None:
    """The bytes of a file to `target`, continuing what an earlier try left beside it, and only if the digest is right."""
    part, idle = _part(target), 0
    if target.exists():  # nobody would ask for it if it were known to be whole
        if sha256_of(target) == offer.file.sha256:
            return
        target.unlink()
    while _size(part) != offer.file.size:
        before = _size(part)
        try:
            if idle:  # an address at a storage server is good for an hour or so
                offer = ask(offer.repository, offer.file)
            _append(offer, part, on_bytes)
        except (*_PASSING, GenesisError) as error:
            if isinstance(error, GenesisError) and error.code != ErrorCode.OFFLINE:
                raise
            idle = 1 if _size(part) > before else idle + 1
            if idle == ATTEMPTS:
                raise
            time.sleep(WAIT * 2 ** (idle - 1))
    if sha256_of(part) != offer.file.sha256:
        part.unlink()
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"{offer.name} arrived with another sha256 than {offer.file.sha256[:12]}...",
            "It was deleted; download again, and if it happens twice distrust the network in between.",
            Remedy.DOWNLOAD_WEIGHTS,
        )
    part.replace(target)


def _place(offer: Offer) -> None:
    """Without links, as on most Windows machines, the file goes where it is looked for: that library would copy it."""
    from huggingface_hub.file_download import are_symlinks_supported

    cache = _cache("", offer.repository)
    if offer.commit and not are_symlinks_supported(cache):
        target = cache / "snapshots" / offer.commit / offer.file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        offer.blob.replace(target)


def _append(offer: Offer, part: Path, on_bytes: Callable[[int], None]) -> None:
    """One try: ask for the rest of the file and append it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    own = hf_hub_url(offer.repository.id, offer.file.path, revision=offer.repository.revision)
    # a storage server elsewhere has its permission in the address and refuses a second one
    headers = build_hf_headers() if offer.location == own else {}
    here = _size(part)
    here = here if here < (offer.file.size or 0) else 0
    request = urllib.request.Request(offer.location, headers={**headers, "Range": f"bytes={here}-"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # it sends the file from its beginning
            here = 0
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(here)
            file.seek(here)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                here += len(chunk)
                on_bytes(here)
    if here != offer.file.size:
        raise EOFError(f"the connection ended after {here} of {offer.file.size} bytes")


def _cache(kind: str, repository: Repository) -> Path:
    """Folder of a repository in the library's cache, or in one of its folders beside it."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / kind / repo_folder_name(repo_id=repository.id, repo_type="model")


def _part(blob: Path) -> Path:
    return blob.with_name(blob.name + ".part")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
