"""The databases that can be a source or a target, one package each."""
