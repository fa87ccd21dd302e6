"""What works on tensors and modules: hooks, intercepted torch functions, fills for removed parts, fused maps."""
