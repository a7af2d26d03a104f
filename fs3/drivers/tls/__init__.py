"""TLS 1.3 for both wires: which files say who this process is and whom it believes, and a socket that encrypts."""
