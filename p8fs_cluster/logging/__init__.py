"""The logging that all modules share: JSON or text without secrets, context, keyword fields, levels, queue, files."""
