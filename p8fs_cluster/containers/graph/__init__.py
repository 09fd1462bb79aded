"""The graph of a container as a plain model: what its providers give, its faults, and its picture."""
