"""Blocks: n things in a row dealt to p parts, as evenly as it goes."""


def block_bounds(n: int, part: int, parts: int) -> tuple[int, int]:
    """First and last + 1 of the block that `part` of `parts` takes; sizes differ by at most one."""
    small, larger = divmod(n, parts)
    lo = part * small + min(part, larger)
    return lo, lo + small + (part < larger)


def part_bounds(n: int, rank: int, size: int, part: int, most: int) -> tuple[int, int]:
    """First and last + 1 of part number `part`, of at most `most` rows, of the block that `rank` takes."""
    lo, hi = block_bounds(n, rank, size)
    return min(lo + part * most, hi), min(lo + (part + 1) * most, hi)
