"""Models by name: load one, tell its task and pooling, tell whether it can be explained."""
