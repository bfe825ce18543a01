"""One run: its options, its objects, its directory, what it says, and how it ends."""
