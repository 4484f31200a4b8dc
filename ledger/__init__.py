"""What is true: facts and rules. Pure, except the store and what reads it."""
