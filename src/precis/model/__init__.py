"""The frozen model: its chat format, prefixes of keys and values, reading, scoring and writing after them."""
