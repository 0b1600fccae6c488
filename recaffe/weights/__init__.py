"""Published caffemodels: where they are, how they get here, and the folder that keeps them."""
