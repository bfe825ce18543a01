"""Which batch size and how many ranks to ask for."""
