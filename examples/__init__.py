"""Examples of p8fs_cluster in use; the tests run each of them."""
