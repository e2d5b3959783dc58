"""From prompts to drafts: local models and servers, best of N and beams."""
