"""What works on tensors and modules: hooks, torch's functions watched, fills, maps fused."""
