"""Attacks on what each party sees of a federation, each from its paper: what protection is measured with."""
