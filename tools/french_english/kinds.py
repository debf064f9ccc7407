"""Kinds of nouns, for the verbs and adjectives that go with them."""

__all__ = ["ALL", "GOODS", "LIVING", "SOLID"]

LIVING = "person animal"
GOODS = "food drink text sound door clothes vehicle thing"
SOLID = "text door clothes vehicle thing"
ALL = f"{LIVING} {GOODS} place"
