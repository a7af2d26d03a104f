"""What the bench of SGLang's hierarchical cache runs in: one rank of a server, without its model."""
