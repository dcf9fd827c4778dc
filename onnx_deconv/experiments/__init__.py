"""The experiments of the paper, and comparisons: each returns arrays, figures draw them."""
