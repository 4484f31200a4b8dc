"""Our own servers that behave like the vendors' ones: the sandbox and the tests use them instead of the outside."""
