"""Every private part of another library that we touch, each in a function that says what it stands for.

A library may change these without notice, so that each has a test in tests/test_internals.py that names it.
"""
