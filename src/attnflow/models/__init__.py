"""Models by name: load a model, find its task and pooling, and whether it can be explained."""
