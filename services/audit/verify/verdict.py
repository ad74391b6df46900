"""What a verification can end with, besides the sentence that says all is well."""


class NotGenuine(Exception):
    """Something is not what was signed; the text is the sentence that says what."""


class CannotTell(Exception):
    """There is no answer, for lack of a file, a key or a proof; the text says of what."""
