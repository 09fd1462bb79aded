"""Nodes that lead and lock while everything around them breaks, and the checker of what they believed and wrote."""
