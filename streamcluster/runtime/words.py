"""Numbers as a person reads them."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1200, "picture"), count(1, "picture")
    ('1,200 pictures', '1 picture')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
