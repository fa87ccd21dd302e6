"""How good a map is, in figures: functions of arrays and of a score, without a detector, a method or a file."""
