"""Dependency injection as such: providers, their overrides and scopes, and what is in force here."""
