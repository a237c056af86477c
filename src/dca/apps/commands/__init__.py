"""The commands of `dca`, a module for each group; each adds its own to the parser."""
