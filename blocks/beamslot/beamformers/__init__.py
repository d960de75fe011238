"""What stands between the antennas and the RF chains."""
