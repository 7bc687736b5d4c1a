"""PNG files without the texts in them, whose sizes Pillow limits."""

from __future__ import annotations

import struct

_START = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_CHECK_BYTES = 4
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # none of which decides on a pixel


def without_texts(data: bytes) -> bytes | None:
    """The file without its texts and colour profile; None where it is no PNG or has none."""
    if not data.startswith(_START):
        return None
    kept, at = [_START], len(_START)
    while at + _HEAD.size <= len(data):
        length, kind = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length + _CHECK_BYTES
        if kind not in _TEXTS:
            kept.append(data[at:end])
        at = end
    bare = b"".join(kept)
    return bare if len(bare) < len(data) else None
