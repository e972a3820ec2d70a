"""The page. No numerical work is done here."""
