"""From mammograms and regions to labelled patches in a store, and patients to subsets. numpy and pandas."""
