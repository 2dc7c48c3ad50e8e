"""Hints that something may have been committed. Correctness never depends on one."""
