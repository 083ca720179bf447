"""What a released sum tells about a person: its noise, its price, and the site's record of what was spent."""
