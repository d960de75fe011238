"""What goes wrong with hardware, on purpose and by a seed, one fault a file."""
