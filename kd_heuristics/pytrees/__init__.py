"""Names and kinds of the leaves of a pytree."""
