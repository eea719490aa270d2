"""The formats of data sets: one module each, and `registry`, which lists them."""
