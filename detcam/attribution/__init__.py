"""From a detection and a method to an explanation: maps, the receipt, the evidence, and both in words."""
