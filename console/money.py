"""Money at the edges: decimal strings."""


def money(nano: int) -> str:
    """Nano-dollars as a decimal string of US dollars."""
    return f"{'-' if nano < 0 else ''}{abs(nano) // 10**9}.{abs(nano) % 10**9:09d}"
