"""`aggregate`: Σ of sealed updates, by somebody who can open none of them."""
