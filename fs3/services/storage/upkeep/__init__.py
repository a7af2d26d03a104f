"""What goes on in the background for each target: scrub, repair, and how fast they may go."""
