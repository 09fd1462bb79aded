"""SQLAlchemy's own test suite for dialects, over `container.engine()` and beside it over a plain engine."""
