"""What a run has learned, in lines of text and in tables: modules that models name in `results`."""
