"""Reads IDX files, the format of MNIST: a magic number, sizes, then uint8 values.

The magic number is 0, 0, 8 (unsigned bytes) and the number of dimensions. Four bytes
for each size follow, the highest first. A file may be compressed by gzip, whatever its
name.
"""

import gzip
import math
import struct
import zlib

import numpy as np

_GZIP = b"\x1f\x8b"
_UINT8 = 8  # IDX' code of the type of values
_KINDS = {1: "labels", 3: "images"}


class IdxError(ValueError):
    """Reports bytes that are not the expected IDX file; starts with the file's name."""


def unpacked(content: bytes, name: str) -> bytes:
    """Returns a file's content, decompressed if it is compressed.

    Args:
      content: bytes of the file.
      name: of the file, for messages.

    Raises:
      IdxError: it is a web page, cut short or damaged.
    """
    if content.lstrip()[:1] == b"<":
        raise IdxError(f"{name} is a web page and not an IDX file")
    if content[:2] != _GZIP:
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise IdxError(f"{name} is cut short: its gzip stream has no end") from None
    except (OSError, zlib.error) as error:
        raise IdxError(f"{name} is damaged ({error})") from error


def parse(content: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Returns the values of an IDX file: uint8 of a given shape, read-only.

    Args:
      content: bytes of the file, decompressed.
      shape: expected shape, `(count,)` of labels or `(count, height, width)` of images.
      name: of the file, for messages.

    Raises:
      IdxError: the magic number, the shape or the number of bytes is another.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), (2,), "labels").tolist()
    [7, 9]
    """
    dims = len(shape)
    start = 4 + 4 * dims
    if content[:3] != bytes([0, 0, _UINT8]) or content[3:4] not in map(_byte, _KINDS):
        raise IdxError(
            f"{name} is no IDX file of {_KINDS[dims]}: it begins with the bytes "
            f"{content[:4].hex(' ') or 'of nothing'}, not 00 00 08 0{dims}"
        )
    if content[3] != dims:
        raise IdxError(
            f"{name} holds {_KINDS[content[3]]} in place of {_KINDS[dims]}: images and "
            "labels are exchanged"
        )
    if len(content) < start:
        raise IdxError(f"{name} is cut short within its header of {start} bytes")
    found = struct.unpack(f">{dims}I", content[4:start])
    if found[1:] != shape[1:]:
        raise IdxError(
            f"{name} holds images of {_sides(found)} pixels, not {_sides(shape)}"
        )
    if found != shape:
        raise IdxError(f"{name} holds {found[0]:,} {_KINDS[dims]}, not {shape[0]:,}")
    length, expected = len(content) - start, math.prod(shape)
    if length != expected:
        state = "is cut short" if length < expected else "is too long"
        raise IdxError(
            f"{name} {state}: {length:,} bytes follow its header, which announces "
            f"{expected:,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _byte(value: int) -> bytes:
    return bytes([value])


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:]))
