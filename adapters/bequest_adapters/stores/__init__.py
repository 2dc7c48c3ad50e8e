"""Stores: each module holds one kind and gives ``open_store(url) -> Store``."""
