"""Model packages: what they say of themselves, how they run, and which one serves."""
