"""Conformance suites that ship with Bequest, so that a third party's adapter can prove itself.

They need pytest (and nothing else that Bequest itself does not); nothing of Bequest imports
them but `objects`, which needs no pytest, and of which `bequest doctor` makes its scratch object.
"""
