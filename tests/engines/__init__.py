"""Engines that are not of the package: each is a folder with a spec, as another package would have it."""
