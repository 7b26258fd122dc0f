"""Linear maps by their actions, matrix-free: transforms, selections, and what is built of them."""
