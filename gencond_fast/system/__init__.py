"""Files, memory, devices, progress: what the program needs of the machine."""
