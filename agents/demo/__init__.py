"""The demo: a fictional shop, its knowledge base and its customers."""
