"""Loss functions: pure, one equation each. They never step, log or call backward."""
