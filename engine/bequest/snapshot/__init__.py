"""The snapshot object: its bytes, how they are written, read and folded.

`schema/FORMAT.md` is the specification; this package is one implementation of it.
"""
