"""Asking servers that speak OpenAI's interface: HTTP with retries, limits and recorded replies."""
