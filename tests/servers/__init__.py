"""Real servers for the tests: started when first asked for, on free loopback ports, killed after.

Under pytest-xdist every worker starts its own.
"""
