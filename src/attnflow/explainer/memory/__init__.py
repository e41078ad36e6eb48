"""Memory of a call: units, sizes, measured activations, estimates, and batches that fit."""
