"""Long searches for what no test thought of; the tests run a short form of each."""
