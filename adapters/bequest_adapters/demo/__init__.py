"""The demonstration: a controller is killed in mid-work and inherited, with proof of equality.

`models` is a small controller's database, `controller` its process, `proof` the comparison with a
database that Bequest never touched, `story` what happens in which order.
"""
