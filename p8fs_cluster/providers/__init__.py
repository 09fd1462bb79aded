"""The objects that the container hands out, one file each: storage handle and engines, loggers, API settings."""
