"""Where values come from, one file a source: each is read so that nothing is lost, guessed or misread in silence."""
