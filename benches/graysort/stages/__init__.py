"""The four stages, one file each: a task that runs on a worker and a function that coordinates."""
