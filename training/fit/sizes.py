"""Which films the network takes, by their size. Pure: the command line asks before Keras is loaded.

The strides must leave whole pixels, or two ways through a stage end in maps of different sizes.
"""

from __future__ import annotations

CELL = 16  # pixels of a film to a cell of the network's last map: its strides multiplied
_UNSEEN = 10  # a tenth on each side is not looked at, where that leaves whole pixels


def margin_of(side: int, *, cell: int = CELL) -> int:
    """Return how much of a film of so many pixels a side is not looked at, on each side.

    >>> margin_of(160), margin_of(224)
    (16, 0)
    """
    margin = side // _UNSEEN
    return margin if (side - 2 * margin) % cell == 0 else 0


def is_whole(side: int) -> bool:
    """Whether the network can be built for films of so many pixels a side.

    >>> is_whole(160), is_whole(150)
    (True, False)
    """
    return side > 0 and (side - 2 * margin_of(side)) % CELL == 0
