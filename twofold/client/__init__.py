"""Client of servers with OpenAI's interface: HTTP with retries, limits and recorded replies."""
