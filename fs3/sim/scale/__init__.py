"""The control plane of a large cluster on virtual time: how much it says, how long it takes, and what breaks first."""
