"""The embedded RocksDB."""
