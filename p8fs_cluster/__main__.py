"""`python -m p8fs_cluster`: the same as the command `p8fs-cluster`."""

from p8fs_cluster.cli.app import main

main()
