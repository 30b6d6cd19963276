"""A MODEL, as every verb takes it → weights and tokenizer, found, verified and loaded."""
