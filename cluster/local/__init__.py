"""A cluster of several hosts on one Linux machine: for tests, drills and demos. See ../README.md.

Each host is a network, mount, process and host-name namespace with an address, a home folder and a cache disk of its
own, and runs Ray; a bridge connects them with each other and with the platform's services. It needs root.
"""
