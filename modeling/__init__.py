"""Factorized-Dreamer's model in pure PyTorch: networks, noise schedule, objective, sampler."""
