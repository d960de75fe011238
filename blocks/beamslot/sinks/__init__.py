"""Where slots end: judged, written, counted, cut off."""
