"""The sources of values, one file each: read so that nothing is lost, guessed or misread in silence."""
