"""What is done with a loaded model: score a store, mark mammograms, time, test for shortcuts, choose a threshold."""
