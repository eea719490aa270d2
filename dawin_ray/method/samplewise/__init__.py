"""TODO method/samplewise."""
