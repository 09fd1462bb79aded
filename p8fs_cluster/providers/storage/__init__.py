"""The storage handles, and the engines beneath them."""
