"""Members that cannot be lost: they keep their names, always agree, and never have to recover."""

__all__ = ["FixedMembers"]


class FixedMembers:
    """Keep the `Members` contract for a communicator none of whose ranks can be lost."""

    size: int
    elastic = False

    @property
    def names(self) -> list[int]:
        """Return all ranks."""
        return list(range(self.size))

    def whois(self, name: int) -> str:
        """Describe a rank for people."""
        return f"rank {name}"

    def agree(self) -> None:
        """Return at once: nobody can be lost."""

    def recover(self) -> list[int]:
        """Raise: nobody can be lost."""
        raise AssertionError("no rank of this communicator can be lost")

    def leave(self, code: int) -> int:
        """Return the exit code."""
        return code
