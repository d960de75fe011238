"""From what the RF chains see back to the channel."""
