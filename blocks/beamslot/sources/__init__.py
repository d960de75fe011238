"""Where slots come from: simulated front ends, recordings, hardware."""
