"""What a case showed against what was expected of it. Pure, but for the model that judges."""
