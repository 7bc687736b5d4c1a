"""Tables that say which rows each program of the kernels works on, made once from the classes.

A *position* is the place of a row in the order of classes. Classes of at most PACK rows are packed
whole into tiles of PACK positions. Larger classes are called *tiled*. They are numbered from the
largest down; their rows, in that order, are the *operand rows*, and each class is cut into tiles of
TILE operand rows. For example, classes of 300, 20 and 20 rows give one packed tile for the small
two, and three tiles for tiled class 0, the last of them with 44 rows.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PACK = 64
TILE = 128
# rows that a program of `class_sums_kernel` adds up
CHUNK = 256
# tiles of TILE x TILE weights: 256 MiB in float32, including those of near pairs
WORKSPACE_TILES = 2048
# several programs sweep a tile of rows, or a few large classes would not fill a GPU
SWEEP_TILES, MAX_SWEEPS = 4, 8

Array = np.ndarray


class Numbers(NamedTuple):
    """What launchers know without reading the device."""

    num_rows: int
    num_classes: int
    end: int  # positions from here on belong to no class
    pairs: int  # ordered pairs of different rows of one class
    compared: int  # rows that have another row in their class
    operand_rows: int
    slots: int  # tiles in the workspace of weights


class Group(NamedTuple):
    """The weight tiles that the workspace holds at one time, and the gradient tiles that use them.

    The fields begin and end are rows of the tables `weights` and `gradients`. The other fields are
    added to what these rows say. They are 0, except for a class too large for the workspace: it is
    cut into blocks of tiles, all pairs of blocks use the same rows, and each pair is a group.
    """

    weights_begin: int
    weights_end: int
    gradient_begin: int
    gradient_end: int
    tiled_class: int
    row_block: int  # the first tile of the rows of the block
    column_block: int  # the first tile of its columns


class Tables(NamedTuple):
    """Tables on the device, int32; every row starts at a multiple of 16 bytes.

    In `classes`, position - operand row is the `delta` of the kernels. In `weights`, the slot is
    where the workspace keeps the weights of the tile, and the mirror image is the tile with rows
    and columns exchanged; only tiles on and above the diagonal are listed.
    """

    positions: Tensor  # [tiles, PACK] positions of packed rows, -1 for none
    segments: Tensor  # [tiles, PACK] the class of each, -1 for none
    chunks: Tensor  # [., 4] position begin, end; class; row of partial means or -1
    merges: Tensor  # [., 4] class, first partial, number of partials, rows
    classes: Tensor  # [., 4] operand row begin, end; position - operand row; class
    row_tiles: Tensor  # [., 4] tiled class, tile, first sweep, number of sweeps
    sweeps: Tensor  # [., 4] tiled class, row tile; first column tile, the one behind the last
    weights: Tensor  # [., 8] tiled class, row tile, column tile, slot, slot of the mirror image
    gradients: Tensor  # [., 4] tiled class, row tile, number of column tiles, first slot


def tile_tables(
    offsets_on_host: Tensor,
    num_rows: int,
    device: torch.device | str,
    workspace_tiles: int = WORKSPACE_TILES,
) -> list[Tensor]:
    """Make the tables of the kernels, for features of any width and dtype and for every kind.

    Args:
        offsets_on_host: [K+1] int64 on the CPU: where each class starts, and where the last ends.
        num_rows: N, rows of the features.
        device: where the kernels run; one copy takes all tables there.
        workspace_tiles: how many TILE x TILE weights may exist at one time, at least 2.

    Returns:
        A CPU int64 tensor of `Numbers` and `Group`s, then the int32 tensors of `Tables`.

    Raises:
        ValueError: int32 cannot count the rows.
    """
    if num_rows >= 2**31 - TILE:
        raise ValueError(f"tile_tables: {num_rows} rows are more than positions in int32 can name.")
    offsets = offsets_on_host.numpy()
    sizes = np.diff(offsets)
    tiled = np.argsort(-sizes, kind="stable")[: int((sizes > PACK).sum())]
    tiles = -(-sizes[tiled] // TILE)
    weights, gradients, groups, slots = _groups(tiles, workspace_tiles)
    parts = [
        *_packed(offsets, sizes),
        *_chunks(offsets, sizes),
        _classes(offsets, sizes, tiled),
        *_sweeps(tiles),
        weights,
        gradients,
    ]
    compared = sizes[sizes > 1]
    numbers = Numbers(
        num_rows=num_rows,
        num_classes=len(sizes),
        end=int(offsets[-1]),
        pairs=int((compared * (compared - 1)).sum()),
        compared=int(compared.sum()),
        operand_rows=int(sizes[tiled].sum()),
        slots=slots,
    )
    host = torch.tensor([*numbers, *(field for group in groups for field in group)])
    return [host, *_upload(parts, device)]


def unpack(tables: list[Tensor]) -> tuple[Numbers, list[Group], Tables]:
    """Turn what `tile_tables` made back into named parts."""
    host = tables[0].tolist()
    first, step = len(Numbers._fields), len(Group._fields)
    groups = [Group(*host[i : i + step]) for i in range(first, len(host), step)]
    return Numbers(*host[:first]), groups, Tables(*tables[1:])


def _ragged(counts: Array) -> tuple[Array, Array]:
    """Given how many items each owner has: the owner of every item, and its rank among them."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(_starts(counts), counts)


def _starts(counts: Array) -> Array:
    return np.cumsum(counts) - counts


def _columns(*columns: Array | int, width: int = 4) -> Array:
    length = max(len(column) for column in columns if isinstance(column, np.ndarray))
    table = np.zeros((length, width), np.int32)
    for i, column in enumerate(columns):
        table[:, i] = column
    return table


def _packed(offsets: Array, sizes: Array) -> tuple[Array, Array]:
    """Pack small classes into tiles of k places of PACK // k positions each, k as large as fits."""
    classes = np.flatnonzero((sizes > 0) & (sizes <= PACK))
    fit = PACK // sizes[classes]
    order = np.argsort(fit, kind="stable")
    classes, fit = classes[order], fit[order]
    kinds, first, count = np.unique(fit, return_index=True, return_counts=True)
    rank = np.arange(len(fit)) - np.repeat(first, count)
    full = -(-count // kinds)
    start = (np.repeat(_starts(full), count) + rank // fit) * PACK + rank % fit * (PACK // fit)
    positions = np.full((int(full.sum()), PACK), -1, np.int32)
    segments = positions.copy()
    owner, within = _ragged(sizes[classes])
    positions.reshape(-1)[start[owner] + within] = offsets[classes[owner]] + within
    segments.reshape(-1)[start[owner] + within] = classes[owner]
    return positions, segments


def _chunks(offsets: Array, sizes: Array) -> tuple[Array, Array]:
    """Cut every class into chunks of CHUNK positions; list the classes of several chunks."""
    counts = np.maximum(-(-sizes // CHUNK), 1)
    owner, rank = _ragged(counts)
    begin = offsets[owner] + rank * CHUNK
    end = np.minimum(begin + CHUNK, offsets[owner + 1])
    several = counts > 1
    first = _starts(counts * several)
    partial = np.where(several[owner], first[owner] + rank, -1)
    split = np.flatnonzero(several)
    merges = _columns(split, first[split], counts[split], sizes[split])
    return _columns(begin, end, owner, partial), merges


def _classes(offsets: Array, sizes: Array, tiled: Array) -> Array:
    """Number the operand rows of the tiled classes."""
    start = _starts(sizes[tiled])
    return _columns(start, start + sizes[tiled], offsets[tiled] - start, tiled)


def _sweeps(tiles: Array) -> tuple[Array, Array]:
    """Split the column tiles of every row tile among sweeps, for classes of so many tiles."""
    owner, row = _ragged(tiles)
    split = np.clip(-(-tiles // SWEEP_TILES), 1, MAX_SWEEPS)[owner]
    row_tiles = _columns(owner, row, _starts(split), split)
    tile, part = _ragged(split)
    width, parts = tiles[owner[tile]], split[tile]
    begin, end = part * width // parts, (part + 1) * width // parts
    return row_tiles, _columns(owner[tile], row[tile], begin, end)


def _groups(tiles: Array, cap: int) -> tuple[Array, Array, list[Group], int]:
    """Lay out weight tiles in the workspace: of many classes at once, or of blocks of a large one.

    Returns the tables of weights and gradients, the groups, and the slots that a group needs.
    """
    large = int((tiles * tiles > cap).sum())
    whole = tiles[large:]
    squares = np.concatenate([[0], np.cumsum(whole * whole)])
    bounds = [0]
    while bounds[-1] < len(whole):
        reach = squares[bounds[-1]] + cap
        bounds.append(int(np.searchsorted(squares, reach, side="right")) - 1)
    members = np.diff(bounds)
    base = squares[:-1] - np.repeat(squares[bounds[:-1]], members)

    owner, rank = _ragged(whole * whole)
    width = whole[owner]
    i, j = rank // width, rank % width
    i, j, owner, width = (column[j >= i] for column in (i, j, owner, width))
    slot, mirror = base[owner] + i * width + j, base[owner] + j * width + i
    weights = _columns(owner + large, i, j, slot, mirror, width=8)
    owner, i = _ragged(whole)
    gradients = _columns(owner + large, i, whole[owner], base[owner] + i * whole[owner])

    upper = np.concatenate([[0], np.cumsum(whole * (whole + 1) // 2)])[bounds].tolist()
    rows = np.concatenate([[0], np.cumsum(whole)])[bounds].tolist()
    groups = [
        Group(upper[g], upper[g + 1], rows[g], rows[g + 1], 0, 0, 0) for g in range(len(members))
    ]
    slots = int(np.diff(squares[bounds]).max(initial=0))
    if large == 0:
        return weights, gradients, groups, slots
    pattern = _block_pairs(tiles[:large], cap, len(weights), len(gradients))
    weights = np.concatenate([weights, pattern[0]])
    gradients = np.concatenate([gradients, pattern[1]])
    return weights, gradients, [*pattern[2], *groups], max(slots, pattern[3])


def _block_pairs(
    tiles: Array, cap: int, weights_at: int, gradients_at: int
) -> tuple[Array, Array, list[Group], int]:
    """Tables for a pair of different blocks and for a block with itself, and a group for each pair.

    The classes of `tiles` tiles all use the same rows of the tables, which start at weights_at and
    gradients_at.
    """
    b = isqrt(cap // 2)
    i, j = np.divmod(np.arange(b * b), b)
    across = _columns(0 * i, i, j, i * b + j, b * b + j * b + i, width=8)
    within = across[j >= i].copy()
    within[:, 4] -= b * b
    row = np.arange(b)
    gradients = _columns(0 * row, row, b, row * b)
    middle, weights_end = weights_at + b * b, weights_at + b * b + len(within)
    groups = []
    for tiled_class, count in enumerate((-(-tiles // b)).tolist()):
        for first in range(count):
            for second in range(first, count):
                bounds = (middle, weights_end) if first == second else (weights_at, middle)
                place = (tiled_class, first * b, second * b)
                groups.append(Group(*bounds, gradients_at, gradients_at + b, *place))
    return np.concatenate([across, within]), gradients, groups, 2 * b * b


def _upload(parts: list[Array], device: torch.device | str) -> list[Tensor]:
    # one copy to the device; rows have 4 or 8 numbers, so each part is aligned to 16 bytes
    joined = torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts])).to(device)
    pieces = joined.split([part.size for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
