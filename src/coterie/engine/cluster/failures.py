"""Why Ray says that something failed, in a few words."""

from coterie.foreign import reason


def cause(error: BaseException) -> str:
    """What a worker raised, or what became of it."""
    inner = getattr(error, "cause", None)
    if isinstance(inner, BaseException):
        return reason(inner)
    words = str(error)
    missing = next((line for line in words.splitlines() if "No module named" in line), None)
    if missing is not None:
        return f"{missing.strip()}: install the same packages there"
    if "memory" in words.lower() and "OutOfMemory" in type(error).__name__ + words:
        return "its machine ran out of memory"
    return "its process or its machine died"
