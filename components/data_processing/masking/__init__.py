"""Replaces card numbers, addresses and the like in free text, before a language model reads it."""
