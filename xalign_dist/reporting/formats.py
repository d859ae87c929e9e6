"""Numbers as a person reads them. A missing value is an en dash."""

from __future__ import annotations

NONE = "\u2013"
MINUS = "\u2212"


def percent(value: float | None, digits: int = 1) -> str:
    """0.714 -> ``71.4``; the unit stands in the heading."""
    return NONE if value is None else _signless_zero(f"{100 * value:.{digits}f}")


def decimal(value: float | None, digits: int = 3) -> str:
    """0.1234 -> ``0.123``, with a real minus sign."""
    return NONE if value is None else _signless_zero(f"{value:.{digits}f}")


def signed(value: float | None, share: bool = True) -> str:
    """A difference: percentage points of shares, else decimals; always with its sign."""
    if value is None:
        return NONE
    text = percent(abs(value)) if share else decimal(abs(value))
    if not any(c in "123456789" for c in text):
        return text
    return ("+" if value > 0 else MINUS) + text


def value(number: float | None, share: bool) -> str:
    """A share as percent, else a decimal."""
    return percent(number) if share else decimal(number)


def interval(low: float | None, high: float | None, share: bool = True, sign: bool = False) -> str:
    """``69.1 to 73.8``; an en dash where it was not computed."""
    if low is None or high is None:
        return NONE
    ends = [signed(v, share) if sign else value(v, share) for v in (low, high)]
    return " to ".join(ends)


def p_value(p: float | None) -> str:
    """Three decimals, never a false zero."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float | int | None) -> str:
    """12345 -> ``12,345``; a measured rate keeps one decimal below 100."""
    if number is None:
        return NONE
    if isinstance(number, float) and not number.is_integer() and abs(number) < 100:
        return f"{number:,.1f}"
    return f"{number:,.0f}"


def seconds(duration: float | None) -> str:
    """Seconds, minutes or hours with their unit."""
    if duration is None:
        return NONE
    if duration < 59.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def tick(number: float) -> str:
    """A value on an axis: as short as it stays exact to three digits."""
    if number and (abs(number) >= 100_000 or abs(number) < 0.001):
        return f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)
    return f"{number:.3g}".replace("-", MINUS) if abs(number) < 1000 else f"{number:,.0f}"


def _signless_zero(text: str) -> str:
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)
