"""What the operating system gives: files, names, processes, output, and trouble with them."""
