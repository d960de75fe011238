"""The pictures of the README, made anew from a running graph."""
