"""One self-contained page about a data set or a run: figures are collected here, then laid out."""
