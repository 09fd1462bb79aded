"""Whether what a process stands on works."""
