"""Where the key holder's secret keys lie, how they are moved, and when the next one is made."""
