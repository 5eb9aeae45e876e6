"""How often every method errs, under the engine's own allocation, in a grid of scenarios."""
