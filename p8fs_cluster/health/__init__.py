"""Checks of the settings and the storage that a process stands on."""
