"""What is added to a layer's output: a protocol, and the rules that implement it."""
