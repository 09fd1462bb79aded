"""Callers of the key-value store while everything around them breaks, and the checker of what they saw and wrote."""
