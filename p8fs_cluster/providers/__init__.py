"""What the container hands out, one file a thing: the storage handle and its engines, loggers, API settings."""
