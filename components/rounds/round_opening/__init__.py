"""`open_round`: resumes the newest unfinished round or issues the ticket of the next one."""
