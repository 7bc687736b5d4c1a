"""Edits that make a hostile file of a sound one: torn, repeated, turned into lies about sizes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

_MOST_EDITS = 6
_LONGEST = 512  # bytes that are removed, repeated or noise
_EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
)

Edit = Callable[[bytearray, Random], None]


def _place(content: bytearray, rng: Random) -> int:
    return rng.randrange(len(content) + 1)


def _flip(content: bytearray, rng: Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(content: bytearray, rng: Random) -> None:
    """A number that may be a size becomes an extreme one."""
    number = rng.choice(_EXTREMES) & 0xFFFFFFFFFFFFFFFF
    size, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
    at = _place(content, rng)
    content[at : at + size] = struct.pack(f"{order}Q", number)[
        slice(size) if order == "<" else slice(8 - size, 8)
    ]


def _remove(content: bytearray, rng: Random) -> None:
    at = _place(content, rng)
    del content[at : at + rng.randrange(1, _LONGEST)]


def _repeat(content: bytearray, rng: Random) -> None:
    at = _place(content, rng)
    piece = content[at : at + rng.randrange(1, _LONGEST)]
    content[at:at] = piece * rng.choice((1, 2, 50))


def _move(content: bytearray, rng: Random) -> None:
    at, to, size = _place(content, rng), _place(content, rng), rng.randrange(1, _LONGEST)
    content[to : to + size] = content[at : at + size]


def _noise(content: bytearray, rng: Random) -> None:
    at = _place(content, rng)
    content[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 16)))


def _cut(content: bytearray, rng: Random) -> None:
    del content[_place(content, rng) :]


EDITS: tuple[Edit, ...] = (
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _remove,
    _repeat,
    _move,
    _noise,
    _cut,
)


def words(tokens: Sequence[bytes]) -> Edit:
    """An edit that inserts one of these, or puts it in the place of a line."""

    def edit(content: bytearray, rng: Random) -> None:
        lines = bytes(content).split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = rng.choice((b"", lines[at], lines[at].partition(b":")[0] + b": ")) + rng.choice(
            tokens
        )
        content[:] = b"\n".join(lines)

    return edit


def tar_field(content: bytearray, rng: Random) -> None:
    """Another name, kind or size in a header of an archive, its checksum made right again."""
    headers = [
        at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"
    ]
    if not headers:
        return
    at = rng.choice(headers)
    field, width, values = rng.choice(_TAR_FIELDS)
    content[at + field : at + field + width] = rng.choice(values).ljust(width, b"\0")[:width]
    total = sum(content[at : at + 148]) + 8 * ord(" ") + sum(content[at + 156 : at + 512])
    content[at + 148 : at + 156] = b"%06o\0 " % total


_BASE_256 = [b"\x80" + number.to_bytes(11, "big") for number in (2**31, 2**40, 2**63, 2**80)]
_TAR_FIELDS = (
    (0, 100, (b"../../out.png", b"/tmp/out.png", b"ant/../../out.png", b"a/\x1b[2J.png", b"")),
    (156, 1, [bytes([kind]) for kind in b"1234567LKxgSX\xff"]),
    (124, 12, (b"77777777777", b"-1", b"\xff" * 12, b"00000000001", *_BASE_256)),
)  # fmt: skip


def spoil(content: bytes, rng: Random, edits: Sequence[Edit] = EDITS) -> bytes:
    """The content after a few of the edits.

    Args:
        content: of a sound file.
        rng: whence all choices come.
        edits: to choose from.
    """
    spoilt = bytearray(content)
    for _ in range(rng.randrange(1, _MOST_EDITS + 1)):
        rng.choice(edits)(spoilt, rng)
    return bytes(spoilt)
