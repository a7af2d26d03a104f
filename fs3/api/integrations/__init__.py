"""What other libraries ask for beside fsspec. Each module needs the library it is named after, and nothing else imports it."""
