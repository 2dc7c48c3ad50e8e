"""Everything outside of the engine: databases, stores, wake-ups, configuration, command line.

Nothing is imported here: an adapter is loaded when its address is used.
"""
