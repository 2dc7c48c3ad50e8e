"""Conformance suites that ship with Bequest, so that a third party's adapter can prove itself.

They need pytest (and nothing else that Bequest itself does not); nothing of Bequest imports them.
"""
