"""The command `p8fs-cluster`."""
