"""Numbers of clips in messages."""


def clip_count(number: int) -> str:
    """`1 clip`, `12 clips`."""
    return "1 clip" if number == 1 else f"{number} clips"
