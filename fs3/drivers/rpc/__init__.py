"""What all transports share: the client's side of a call, the server's, payloads, and the rules about both."""
