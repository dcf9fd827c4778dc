"""From a model to graphs: the forward model, its companion, the explain graph, and their files."""
