"""The functions to call. Pickle sends a function as the names of its module and of itself, so both
sides import this module.
"""

from collections import Counter


def echo(data):
    return data


def count_words(text):
    return Counter(text.split())
