# SPDX-License-Identifier: Apache-2.0
"""The four stream compressions of .vxz files: none, raw DEFLATE, raw LZMA2, Zstandard (docs/spec/geometry.md 6.1).

Every decoder takes the largest size the caller can use, so that a damaged or malicious file cannot fill the memory.
"""

from __future__ import annotations

import lzma
import zlib

DEFAULT_LEVEL = {"none": 0, "deflate": 9, "lzma": 9, "zstd": 22}


def compress(data: bytes, compression: str, level: int) -> bytes:
    """One stream.

    Raises:
        KeyError: an unknown compression.
    """
    return {"none": _keep, "deflate": _deflate, "lzma": _lzma, "zstd": _zstd}[compression](data, level)


def decompress(data: bytes, compression: str, level: int, size_max: int) -> bytes:
    """One stream back.

    Raises:
        ValueError: data that is damaged, truncated or larger than `size_max`, or an unknown compression.
    """
    try:
        if compression == "none":
            plain = data
        elif compression == "deflate":
            decoder = zlib.decompressobj(-15)
            plain = decoder.decompress(data, size_max + 1)
            _finished(decoder.eof or len(plain) > size_max)
        elif compression == "lzma":
            decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": level}])
            plain = decoder.decompress(data, size_max + 1)
            _finished(decoder.eof or len(plain) > size_max)
        elif compression == "zstd":
            plain = _unzstd(data, size_max)
        else:
            raise ValueError(f"unknown compression {compression!r}")
    except (zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"a stream does not unpack ({error})") from error
    if len(plain) > size_max:
        raise ValueError(f"a stream unpacks to more than {size_max} bytes")
    return plain


def _finished(end: bool) -> None:
    if not end:
        raise ValueError("a stream ends too early")


def _keep(data: bytes, level: int) -> bytes:
    return data


def _deflate(data: bytes, level: int) -> bytes:
    encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
    return encoder.compress(data) + encoder.flush()


def _lzma(data: bytes, level: int) -> bytes:
    # the dictionary may be smaller than the level's: the stream stays valid for readers that assume the preset, and the
    # encoder does not reserve ten times 64 MiB for a stream of a few kilobytes
    dictionary = min(max(4096, 1 << max(len(data) - 1, 1).bit_length()), 1 << 26)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": dictionary}]
    return lzma.compress(data, lzma.FORMAT_RAW, filters=filters)


def _zstandard():
    """The package, which only this compression needs."""
    try:
        import zstandard
    except ImportError as error:
        raise ValueError("Zstandard streams need the Python package zstandard, which is not installed") from error
    return zstandard


def _zstd(data: bytes, level: int) -> bytes:
    zstandard = _zstandard()
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(data)


def _unzstd(data: bytes, size_max: int) -> bytes:
    zstandard = _zstandard()
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return reader.read(size_max + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"a stream does not unpack ({error})") from error
