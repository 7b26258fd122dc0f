"""Data sets: each module of this package that a YAML in conf/data names reads one kind into a `Table`."""
