"""Who may do what: what is signed, how it is checked, and for how long it holds. Pure; keys and times come as arguments."""
