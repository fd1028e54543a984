"""A page in the browser that samples and reconstructs: `videoar app`."""
