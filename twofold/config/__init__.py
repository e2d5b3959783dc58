"""Recipes: their schema, loading, errors and introspection, and classes of a user's own."""
