"""Which task runs next, who runs it, and who else works in the same store."""
