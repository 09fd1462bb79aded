"""A real TiDB to test on, built from TiDB's own Go packages by `make tidb` and kept outside the clone."""
