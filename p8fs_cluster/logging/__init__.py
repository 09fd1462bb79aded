"""The logging that all modules share: `setup` attaches it, `formats` writes records, `redaction` keeps secrets out."""
