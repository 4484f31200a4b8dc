"""What we say: which message makes which notification, and the words of each."""
