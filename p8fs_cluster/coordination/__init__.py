"""Leases, locks, leaders and nodes: what many processes need to work together."""
