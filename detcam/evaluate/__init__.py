"""How good maps are: measurements against what people labelled and against the detector itself."""
