"""What `videoar plan` is made of: live (bytes alive), steps (what is counted), memory and cluster (the tables)."""
