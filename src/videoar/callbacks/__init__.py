"""Lightning callbacks: each applies a pure schedule or shows something, and saves what it needs to go on."""
