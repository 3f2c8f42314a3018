"""People: who, when, what arrived."""
