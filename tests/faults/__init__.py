"""What happens to callers when servers restart, hang, vanish or change: through the handle, and with the bare pool."""
