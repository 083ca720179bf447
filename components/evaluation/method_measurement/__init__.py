"""`measure`: one configuration of one method, on a corpus."""
