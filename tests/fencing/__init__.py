"""An object is only replaced by its descendant, or by an operator's command that keeps it."""
