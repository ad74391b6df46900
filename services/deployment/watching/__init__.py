"""Watching: one connection that hears of changes, one reader of them, a stream for each caller.

Who watches what is in `streams`, how changes get there in `feed`, where they are heard of in
`listener`, and what a stream begins with and goes on with in `watching`.
"""
