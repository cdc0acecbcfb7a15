"""The text whose words are counted."""

SENTENCE = "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs away"
