"""How strongly a concept is erased: fixed, given, or read by an adapter."""
