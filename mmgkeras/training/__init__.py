"""Fitting a network to the training patches of one fold, restartable at any step."""
