"""Images made by known rules, with labels that are therefore known."""
