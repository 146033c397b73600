"""Film sizes that the network accepts. Pure, so that the command line needs no Keras.

The strides must divide the film evenly, or the two paths of a stage have maps of different sizes.
"""

from __future__ import annotations

CELL = 16  # pixels per cell of the network's last map: the product of its strides
_UNSEEN = 10  # a tenth on each side is ignored, if the strides then divide the rest evenly


def margin_of(side: int, *, cell: int = CELL) -> int:
    """Return the margin ignored on each side of a film with this many pixels a side.

    >>> margin_of(160), margin_of(224)
    (16, 0)
    """
    margin = side // _UNSEEN
    return margin if (side - 2 * margin) % cell == 0 else 0


def is_whole(side: int) -> bool:
    """Whether the network can be built for films with this many pixels a side.

    >>> is_whole(160), is_whole(150)
    (True, False)
    """
    return side > 0 and (side - 2 * margin_of(side)) % CELL == 0
