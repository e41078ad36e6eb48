"""What is explained: the output space, a decision in it, a span of decisions."""
