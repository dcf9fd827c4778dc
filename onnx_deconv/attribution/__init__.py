"""Explain a model's answers: run images forward, send seeds back, return reconstructions."""
