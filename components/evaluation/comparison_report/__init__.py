"""The report of a comparison of methods: figures, one page, and RESULTS.md, all from `results.json`."""
