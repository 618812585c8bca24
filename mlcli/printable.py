"""Texts, such as names of files, with characters that can be shown alone: a leaf that anyone may import."""


def printable(text: str) -> str:
    """Control characters of strange file names escaped, undecodable bytes shown as such."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
