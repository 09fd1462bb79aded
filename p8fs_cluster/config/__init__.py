"""Where every setting comes from: `settings` is the model, `sources` reads it, `live` follows it."""
