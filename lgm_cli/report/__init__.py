"""What a person looks at: the pictures of a finished run, each named by a model's `pictures`."""
