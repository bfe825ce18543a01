"""Tables as people have them: from files to records that all ranks of a host map."""
