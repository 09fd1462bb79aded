"""Leases on simulated machines: one thread, no real time, and the same course for the same seed."""
