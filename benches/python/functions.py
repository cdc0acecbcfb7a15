"""What can be called. Pickle sends functions by the name of their module, so both sides import this."""

from collections import Counter


def echo(data):
    return data


def count_words(text):
    return Counter(text.split())
