"""What we do when something happens: a message, a due agenda row, a provider's report, the clock."""
