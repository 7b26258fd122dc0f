"""pictures to come."""
